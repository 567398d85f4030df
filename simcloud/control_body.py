"""Reading the bodies of control requests."""

from __future__ import annotations

import json
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request

Body = TypeVar("Body", bound=BaseModel)


async def read_body(request: Request, model: type[Body]) -> Body:
    """Return the validated body of a control request.

    Raises:
        HTTPException: 422 naming the field that is wrong.
    """
    raw = await request.body()
    try:
        return model.model_validate(json.loads(raw or b"{}"))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in each['loc']) or 'body'}: {each['msg']}"
            for each in error.errors()
        )
        raise HTTPException(422, problems) from error
    except ValueError as error:
        raise HTTPException(422, f"body: not JSON ({error})") from error
