from models.training.markdown import paragraph, table


def test_tables_and_paragraphs_are_markdown() -> None:
    assert table(["", "a"], [["x", "1"]]) == "|  | a |\n| --- | ---: |\n| x | 1 |"
    lines = paragraph("word " * 60, bullet=True).splitlines()
    assert lines[0].startswith("- word")
    assert lines[1].startswith("  word")
    assert max(map(len, lines)) <= 120
