"""The tags of MLflow runs that hold what is known of sweeps and trials: one list for writer and
reader."""

PREFIX = "kd_sweep."
KIND = PREFIX + "kind"
SWEEP_ID = PREFIX + "sweep_id"
SWEEP_NAME = PREFIX + "sweep_name"
TRIAL = PREFIX + "trial"
ATTEMPT = PREFIX + "attempt"
STATE = PREFIX + "state"
LABEL = PREFIX + "label"
CELL = PREFIX + "cell"  # of a controlled study's trial: its cell's label
ROLE = PREFIX + "role"  # and what it is for: compared, or tuning
TUNED = PREFIX + "tuned"  # and the field that is tuned for each cell, where one is
SEARCHED = PREFIX + "searched"
OBJECTIVE_METRIC = PREFIX + "objective_metric"
OBJECTIVE_DIRECTION = PREFIX + "objective_direction"
SECOND_OBJECTIVE_METRIC = PREFIX + "second_objective_metric"
SECOND_OBJECTIVE_DIRECTION = PREFIX + "second_objective_direction"
STUDY = PREFIX + "study"  # of a controlled study: its numbers of cells and seeds, as JSON
CONFIRMS = PREFIX + "confirms"  # the sweep whose best configs it trains again
SEARCH = PREFIX + "search"
CODE_VERSION = PREFIX + "code_version"
NUM_TRIALS = PREFIX + "num_trials"
DEVICE = PREFIX + "device"
WORLD_SIZE = PREFIX + "world_size"
TEACHER_SOURCE = PREFIX + "teacher_source"
FINGERPRINT = PREFIX + "fingerprint."
PROVENANCE = PREFIX + "provenance."
FACT = PREFIX + "fact."
ERROR = PREFIX + "error"
WARNING = PREFIX + "warning"
RESTED = PREFIX + "rested_ms"  # see `rests`
RERUN_OF = PREFIX + "rerun_of"

PARENT_RUN = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
SOURCE_NAME = "mlflow.source.name"
IMAGE = PREFIX + "image"
COMMIT = "mlflow.source.git.commit"

# Metrics of a sweep's run: what teacher and student score before any trial, on how many examples.
TEACHER = "teacher/"
UNDISTILLED = "undistilled/"
VALIDATION_EXAMPLES = "data/validation_examples"

# Begins the names of metrics on evaluation sets, which report and never select.
TEST = "test/"

KIND_SWEEP = "sweep"
KIND_TRIAL = "trial"
KIND_RERUN = "rerun"

OBJECTIVE = "objective"
"""Metric that holds a trial's objective, so that trials can be ordered by it whatever it is."""
