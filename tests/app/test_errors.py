"""What every problem has in common."""

import pytest

import app.main  # noqa: F401 - so that every problem is there
from app.errors import ServiceError


def family(kind: type[ServiceError]) -> list[type[ServiceError]]:
    """A class and all that derive from it."""
    return [kind, *(each for derived in kind.__subclasses__() for each in family(derived))]


@pytest.mark.parametrize("problem", family(ServiceError), ids=lambda problem: problem.__name__)
def test_a_type_of_problem_has_one_title_and_one_status(problem: type[ServiceError]) -> None:
    same = [other for other in family(ServiceError) if other.kind == problem.kind]
    assert {(other.title, other.status) for other in same} == {(problem.title, problem.status)}
