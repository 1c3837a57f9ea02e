from models.training.studies.page import percent


def test_a_figure_of_one_seed_has_no_interval() -> None:
    assert percent([0.5]) == "50.0"
