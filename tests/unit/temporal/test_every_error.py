"""Whatever an activity raises is the same error again in the workflow that catches it."""

from __future__ import annotations

import pytest

from dumont.domain.errors import BY_CODE, DumontError
from dumont.temporal.failures import error_of, to_application_error


@pytest.mark.parametrize("cls", BY_CODE.values(), ids=BY_CODE)
def test_it_crosses_the_border(cls: type[DumontError]) -> None:
    raised = to_application_error(cls("what is wrong", hint="what to do"))
    # Details arrive as plain data.
    raised._details = [raised.details[0].model_dump()]
    caught = error_of(raised)
    assert type(caught) is cls
    assert (caught.message, caught.hint) == ("what is wrong", "what to do")
