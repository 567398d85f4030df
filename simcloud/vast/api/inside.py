"""Looking into an instance through the API: its logs, and ls, rm and du on its disk."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path
from typing import Any

from starlette.responses import Response

from simcloud.vast.api.endpoint import Call, Endpoint
from simcloud.vast.errors import VastError, invalid

_MAX_COMMAND = 512
_ALLOWED = ("ls", "rm", "du")
_TIMEOUT_S = 20.0


async def _logs(call: Call) -> Any:
    instance = call.cloud.roster.get(call.id)
    body = call.fields()
    tail = _tail(body.get("tail"))
    if str(body.get("daemon_logs", "")).lower() == "true":
        lines = [f"instance {instance.id}: {instance.actual_status}: {instance.status_msg}"]
    else:
        lines = call.cloud.context.machines.logs(instance.name, 100_000).splitlines()
    wanted = body.get("filter")
    if wanted:
        lines = [line for line in lines if str(wanted) in line]
    text = "".join(f"{line}\n" for line in lines[-tail:])
    return {"success": True, "result_url": call.cloud.publish(text)}


async def _execute(call: Call) -> Any:
    instance = call.cloud.roster.get(call.id)
    command = call.fields().get("command")
    if not isinstance(command, str) or not command.strip():
        raise invalid("command: is required")
    if len(command) > _MAX_COMMAND:
        raise invalid(f"command: at most {_MAX_COMMAND} characters")
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise invalid(f"command: {error}") from error
    if words[0] not in _ALLOWED:
        raise invalid("command: only ls, rm and du can be executed")
    directory = call.cloud.context.machines.directory(instance.name)
    if not directory.exists():
        raise VastError(400, "no_disk", f"instance {instance.id} has no disk yet")
    text = await _run(words, directory.path)
    return {
        "success": True,
        "result_url": call.cloud.publish(text),
        "writeable_path": f"/var/lib/docker/overlay2/C.{instance.id}/diff",
    }


async def _run(words: list[str], root: Path) -> str:
    """Run an allowed command on the instance's files, whether it runs or not."""
    places = {"/root": root / "home", "/workspace": root / "workspace", "/tmp": root / "tmp"}  # noqa: S108

    def inside(word: str) -> str:
        if word.startswith("-"):
            return word
        path = Path("/root") / word
        for place, real in places.items():
            if path.is_relative_to(place):
                found = (real / path.relative_to(place)).resolve()
                if found.is_relative_to(real.resolve()):
                    return str(found)
        raise invalid(f"command: {word}: only below /root, /workspace and /tmp")

    arguments = [inside(word) for word in words[1:]]
    if words[0] == "rm" and any(Path(each) in places.values() for each in arguments):
        raise invalid("command: refusing to remove a whole place")
    process = await asyncio.create_subprocess_exec(
        words[0],
        *arguments,
        cwd=places["/root"],
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise VastError(400, "timeout", "the command took too long") from None
    text = output.decode(errors="replace")
    for place, real in places.items():
        text = text.replace(str(real.resolve()), place)
    return text


async def _result(call: Call) -> Any:
    text = call.cloud.result(call.request.path_params["token"])
    if text is None:
        raise VastError(404, "not_found", "not ready")
    return Response(text, headers={"Content-Type": "text/plain; charset=utf-8"})


def _tail(value: Any) -> int:
    if value is None:
        return 1000
    try:
        return max(0, int(value))
    except (TypeError, ValueError):
        raise invalid("tail: must be a number of lines") from None


ENDPOINTS = [
    Endpoint(
        operation="instances.logs",
        method="PUT",
        path="/api/v0/instances/request_logs/{id:int}",
        handler=_logs,
    ),
    Endpoint(
        operation="instances.execute",
        method="PUT",
        path="/api/v0/instances/command/{id:int}",
        handler=_execute,
    ),
    Endpoint(
        operation="results.get",
        method="GET",
        path="/api/v0/results/{token}.txt",
        handler=_result,
    ),
]
