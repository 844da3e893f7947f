"""A session that has nothing to do with experiments."""


def test_nothing() -> None:
    pass
