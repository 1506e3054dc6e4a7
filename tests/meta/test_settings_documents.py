"""Settings are declared once: the documents and the help must say what the declarations say."""

from pathlib import Path

from lfscp.config.describe import leaves, markdown, template

ROOT = Path(__file__).parents[2]


def test_the_configuration_file_is_the_generated_one():
    expected = template()
    actual = (ROOT / "config/lfscp.toml").read_text(encoding="utf-8")
    assert expected == actual, "run: lfscp config --template > config/lfscp.toml"


def test_the_list_of_settings_is_the_generated_one():
    actual = (ROOT / "config/settings.md").read_text(encoding="utf-8")
    assert markdown() == actual, "run: lfscp config --markdown > config/settings.md"


def test_every_flag_of_a_setting_is_an_option_of_serve_that_says_the_same():
    import typer.main

    from lfscp.cli.app import app

    command = typer.main.get_command(app).get_command(None, "serve")
    options = {option: parameter for parameter in command.params for option in parameter.opts}
    flags = {leaf.flag: leaf for leaf in leaves() if leaf.flag}
    expected = {
        flag: f"{leaf.help} [default: {leaf.default.strip(chr(34))}]"
        for flag, leaf in flags.items()
    }
    assert {flag: options[flag].help for flag in flags} == expected
