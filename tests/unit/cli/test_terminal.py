"""What others say is shown on a terminal, and does not steer it."""

import json

import pytest

from lfscp.cli.terminal import printable, tell, tell_json, warn

STEERING = "\x1b]0;t\x07\x9b31m\u202eevil\u2066\r\nok\x00\x7f\ud800"


@pytest.mark.parametrize("text", ["Größe 山田", "", "a b"])
def test_text_stays_as_it_is(text):
    assert printable(text) == text


@pytest.mark.parametrize("write", [tell, warn])
def test_a_line_is_one_line_of_printable_characters(write, capsys):
    write(STEERING)
    captured = capsys.readouterr()
    (line,) = (captured.out + captured.err).splitlines()
    assert line == r"\x1b]0;t\x07\x9b31m\u202eevil\u2066\r\nok\x00\x7f\ud800"


def test_json_says_the_same_without_steering(capsys):
    tell_json({"name": STEERING, "plain": "Größe \U0001f600"})
    line = capsys.readouterr().out.removesuffix("\n")
    assert line.isprintable()
    assert json.loads(line) == {"name": STEERING, "plain": "Größe \U0001f600"}
