from models.training.studies.page import paragraph, percent, table


def test_a_figure_of_one_seed_has_no_interval() -> None:
    assert percent([0.5]) == "50.0"


def test_tables_and_paragraphs_are_markdown() -> None:
    assert table(["", "a"], [["x", "1"]]) == "|  | a |\n| --- | ---: |\n| x | 1 |"
    lines = paragraph("word " * 60, bullet=True).splitlines()
    assert lines[0].startswith("- word")
    assert lines[1].startswith("  word")
    assert max(map(len, lines)) <= 120
