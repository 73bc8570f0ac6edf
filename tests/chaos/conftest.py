"""The scenario's parts import the simulator's checker; scripts find it by themselves."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "sim"))
