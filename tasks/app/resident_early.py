# mypy: ignore-errors
# Runs inside the application's interpreter: Python >= 3.6, which has no lazy annotations.
"""Guard a resident's connections from its first moment on: before its settings, its models, its AppConfig.ready().

The target waits in the socket, where it is looked at and left for resident.py. The guard needs Django and the drivers,
which only the application knows when to load: it is told when the import of one of them has come to its end, before
the importing code goes on. What goes wrong here ends the process, with a message: it must not go on unguarded.
"""

import contextlib
import importlib
import json
import os
import socket
import sys

DJANGO, DRIVERS = "django.db", ("psycopg", "psycopg2")
TARGET_BYTES = 1 << 16  # the most that the target's line may have


class Early:
    """What stands guard before the application runs.

    `guard` is there as soon as Django's database package or a driver is; `missed` tells of modules that were loaded in
    a way that cannot be watched.
    """

    def __init__(self, descriptor):
        self.descriptor, self.target = descriptor, None
        self.guard, self.missed = None, set()
        self.awaited = {DJANGO, *DRIVERS}

    def find_spec(self, name, path=None, target=None):
        """Find a module as the others of `sys.meta_path` do, and learn when it has been loaded."""
        if name not in self.awaited:
            return None
        others = (getattr(finder, "find_spec", None) for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (find(name, path, target) for find in others if find)), None)
        if spec is not None:
            try:
                self.follow(spec.loader)
            except AttributeError:  # an archive's, in Python 3.6 and 3.7
                self.missed.add(name)
        return spec

    def follow(self, loader):
        """Be told when a loader has carried out a module that is awaited."""
        load = loader.exec_module

        def told(module):
            load(module)
            self.loaded(module.__name__)

        loader.exec_module = told

    def loaded(self, name):
        """Guard what has come."""
        if name not in self.awaited:
            return
        self.awaited.discard(name)
        with self.fatal():
            if self.guard is None:
                importlib.import_module(DJANGO)  # which may itself come here
            if self.guard is None:
                self.guard = importlib.import_module(f"{__package__}.resident_guard").Guard(self.target)
                self.guard.watch_django()
                self.follow_settings()
            if name in DRIVERS:
                self.guard.watch_driver(name)

    def follow_settings(self):
        """Lead Django's databases to the target the first time that they are asked for."""
        from django.db.utils import ConnectionHandler  # noqa: PLC0415 - only now it is there

        configure = ConnectionHandler.configure_settings

        def led(handler, databases):
            configured = configure(handler, databases)
            if databases is None:  # those of the settings
                with self.fatal():
                    self.guard.lead(configured)
            return configured

        ConnectionHandler.configure_settings = led

    @contextlib.contextmanager
    def fatal(self):
        """End the process when something goes wrong."""
        try:
            yield
        except BaseException as error:  # noqa: BLE001 - whoever started us must learn of it
            kind = type(error)
            told = {"type": f"{kind.__module__}.{kind.__qualname__}", "message": str(error)[:1000]}
            line = json.dumps({"error": dict(told, sqlstate=None, where=None)}).encode("utf-8") + b"\n"
            with contextlib.suppress(OSError):
                os.write(self.descriptor, line)
            os.write(2, line)
            os._exit(3)


def begin():
    """Await Django and the drivers; what is loaded already, by a .pth file for one, is guarded at once."""
    descriptor = int(os.environ["RUNBOOK_RESIDENT_FD"])
    early = Early(descriptor)
    with early.fatal():
        with socket.fromfd(descriptor, socket.AF_UNIX, socket.SOCK_STREAM) as end:
            # Sent before the process was started, hence there as a whole.
            line = end.recv(TARGET_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        early.target = json.loads(line.partition(b"\n")[0].decode("utf-8"))["target"]
        sys.meta_path.insert(0, early)
        for name in sorted(early.awaited & set(sys.modules)):
            early.loaded(name)
    return early
