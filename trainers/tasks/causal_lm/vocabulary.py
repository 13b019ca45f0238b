"""Whether teacher and student speak of the same tokens; no torch."""

# Models round their output matrix up: by up to 127 rows when small, by about a hundredth when
# large.
LARGEST_PADDING = 127


def check_vocabulary(
    teacher_rows: int | None, student_rows: int | None, vocab_size: int | None
) -> None:
    """Raises `ValueError` (with both sizes) unless teacher and student have a row for each of the
    tokenizer's `vocab_size` entries and beyond them only padding. None is not known yet and
    passes."""
    for role, rows in (("teacher", teacher_rows), ("student", student_rows)):
        if rows is None or vocab_size is None:
            continue
        padding = rows - vocab_size
        if not 0 <= padding <= max(LARGEST_PADDING, vocab_size // 100):
            raise ValueError(
                f"{role}: teacher and student must share the tokenizer's vocabulary of "
                f"{vocab_size}, but got {_rows(teacher_rows)} rows in the teacher and "
                f"{_rows(student_rows)} in the student. Take a student of the same family, "
                "or leave vocab_size out of a config."
            )


def _rows(rows: int | None) -> str:
    return "as many" if rows is None else str(rows)
