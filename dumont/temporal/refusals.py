"""What a machine's workflow says to a wish that it does not take, in our words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from temporalio.client import WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.service import RPCError, RPCStatusCode

from dumont.domain.errors import Conflict, DependencyUnavailable, NotFound
from dumont.temporal.failures import error_of

WORKER: Final = "worker"


@contextmanager
def refusals(machine_id: str) -> Iterator[None]:
    """Translate what an update or a signal of a machine's workflow raises.

    Raises:
        Conflict: Its validator refused: the machine's state does not allow it now.
        NotFound: No such workflow runs.
        DependencyUnavailable: No worker took it in time.
        RPCError: Temporal itself is in trouble.
    """
    try:
        yield
    except WorkflowUpdateFailedError as failure:
        refused = error_of(failure.cause)
        raise Conflict(refused.message, hint=refused.hint) from failure
    except WorkflowUpdateRPCTimeoutOrCancelledError as error:
        raise no_worker() from error
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND and "amespace" not in error.message:
            raise NotFound(f"no workflow of machine {machine_id} runs") from error
        raise


def no_worker() -> DependencyUnavailable:
    """No worker answers."""
    return DependencyUnavailable(
        "no worker answered in time", dependency=WORKER, hint="is one running? python -m worker"
    )
