# mypy: ignore-errors
# ruff: noqa: PTH100, PTH120
# Runs inside the application's interpreter, before anything of the application: Python >= 3.6.
"""Put the resident's guard before the application's code.

The directory of this file is the first on PYTHONPATH of a resident, so that `site` imports it. It takes itself out of
the way again, for the sake of the children and of the sitecustomize that would have been found without it.
"""

import importlib
import os
import sys
import types

EARLY = os.path.dirname(os.path.abspath(__file__))
PACKAGE = "runbook_inside"  # as in resident.py


def step_aside():
    """Leave the search path, that of the children too."""
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != EARLY]
    first, _, rest = os.environ.get("PYTHONPATH", "").partition(os.pathsep)
    if first == EARLY:
        del os.environ["PYTHONPATH"]
        if rest:
            os.environ["PYTHONPATH"] = rest


def guard():
    """Have the connections of this process guarded."""
    sys.modules[PACKAGE] = types.ModuleType(PACKAGE)
    sys.modules[PACKAGE].__path__ = [os.path.dirname(EARLY)]
    sys.modules[PACKAGE].early = importlib.import_module(PACKAGE + ".resident_early").begin()


def hand_over():
    """Load the sitecustomize that is next on the path, if any, in place of this one."""
    own = sys.modules.pop("sitecustomize")
    try:
        importlib.import_module("sitecustomize")
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
        sys.modules["sitecustomize"] = own


step_aside()
if "RUNBOOK_RESIDENT_FD" in os.environ:
    guard()
hand_over()
