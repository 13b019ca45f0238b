"""Makes this folder's helpers importable, as `pythonpath` does for those of `tests`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
