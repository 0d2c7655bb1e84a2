"""What a user types reaches the template as it is: Cookiecutter evaluates none of it."""

import pytest

from factfold_cli.render import variables

EVERY_CHARACTER = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x11000), 0x1F69A, 0x10FFFF]))


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "{{ 7*7 }}",
        '" }}{{ 7*7 }}{{ "',
        "' }}{{ 7*7 }}{{ '",
        '\\" }}{{ 7*7 }}{{ \\"',
        "{% raw %}{{ 7*7 }}{% endraw %}",
        "{# gone #}{%- set x = 1 -%}",
        "{{ cookiecutter.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "\\N{BULLET} \\u0041 \\x41 \\101 \\n \\",
        "a\r\nb\rc\nd\x0b\x0c\x1c\x85\u2028\u2029e\0f",
        EVERY_CHARACTER,
    ],
)
@pytest.mark.parametrize("variable", ["service_name", "organisation", "aggregate", "description"])
def test_an_answer_stays_as_it_is(variable: str, answer: str) -> None:
    answers = {"service_name": "x", "aggregate": "X", variable: answer}
    assert variables("python", answers)[variable] == answer
