"""A Jupyter kernel that starts while something else is still under way.

Starting a kernel, and importing there and here what a report needs, takes several seconds, most of it waiting for
imports. A cluster takes longer to come up, so a command starts the kernel first and hands it to `report.write` when
the cluster has been measured::

    with Kernel() as kernel:
        ...  # bring the cluster up, measure
        report.write(notebook, parameters, folder, language="ko", title=title, kernel=kernel)
"""

from __future__ import annotations

import contextlib
import importlib
import os
import threading
from pathlib import Path
from types import TracebackType

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

__all__ = ["Kernel"]

_ROOT = Path(__file__).resolve().parent.parent
_PACKAGE = __name__.rpartition(".")[0]


class Kernel:
    """A Python kernel of this very interpreter that can import this very package. It runs one notebook.

    It dies with this process, whatever ends it: ipykernel looks once a second whether its parent is still there.

    Attributes
    ----------
    manager : KernelManager
    """

    def __init__(self) -> None:
        # No directories: a kernelspec "python3" that somebody registered may belong to another interpreter. What is
        # left is ipykernel's own, which runs sys.executable.
        specs = KernelSpecManager(kernel_dirs=[])
        self.manager = KernelManager(
            kernel_name="python3",
            kernel_spec_manager=specs,
            transport_encryption="auto",
            # With the default, blocking client nbclient waits for a dead kernel's answer for ever.
            client_class="jupyter_client.asynchronous.AsyncKernelClient",
        )
        self._taken = False

    def __enter__(self) -> Kernel:
        path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
        self.manager.start_kernel(
            env=os.environ | {"PYTHONPATH": path},
            extra_arguments=[
                "--HistoryManager.hist_file=:memory:",
                # What every notebook imports; the name is removed so that a notebook still has to import it.
                f"--IPKernelApp.exec_lines=import {_PACKAGE}.page, {_PACKAGE}.plot; del {_PACKAGE}",
            ],
        )
        threading.Thread(target=_import_report, name="import report", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.manager.has_kernel:
            self.manager.shutdown_kernel(now=True)

    @property
    def pid(self) -> int | None:
        """Process id, None before the start and after the end."""
        provisioner = self.manager.provisioner
        return None if provisioner is None else getattr(provisioner, "pid", None)

    def take(self) -> KernelManager:
        """The manager of the running kernel, for the one notebook that it runs.

        Raises
        ------
        RuntimeError
            If the kernel has been taken before: a second notebook would see the first one's variables.
        """
        if self._taken:
            raise RuntimeError("a Kernel runs one notebook, start another Kernel for the next")
        self._taken = True
        return self.manager


def _import_report() -> None:
    """Import it here meanwhile. What is wrong with an import is told by the import statement that needs it."""
    with contextlib.suppress(ImportError):
        importlib.import_module(f"{_PACKAGE}.report")
