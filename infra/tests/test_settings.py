"""How the shell reads .env, creates it and brings it up to date. What is expected here is what Compose itself reads."""

import stat
from pathlib import Path

import pytest
from settings_shell import bash


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("X=plain", "plain"),
        ('X="quoted" # comment', "quoted"),
        ("X='single $HOME # no' # comment", "single $HOME # no"),
        ("X=with space  # comment", "with space"),
        ("X=a#b", "a#b"),
        (r'X="escaped \" \\ \$A"', r'escaped " \ $A'),
        ("export X=exported", "exported"),
        ("X=${NOPE:-default}/${A}", "default/1"),
        ("X=$A", "1"),
        ("X=", ""),
        ("X=p@s/s%#x", "p@s/s%#x"),
        ("X = spaced", "spaced"),
        ("X=x$$y", "x$y"),
        ("X=crlf\r", "crlf"),
        ('X="crlf" # comment\r', "crlf"),
        ('X="crlf"\r', "crlf"),
        ("X=first\nX=last", "last"),
        (r"X='it\'s'", "it's"),
        (r'X="C:\dir\new"', "C:\\dir\new"),
        (r"X=C:\dir", "C:\\dir"),
        (r'X="a\nb"', "a\nb"),
        ('X="two\nlines"', "two\nlines"),
        ("X=#kept", "#kept"),
        ("X: as-in-yaml", "as-in-yaml"),
        ("X=${A:-${NOPE}}${A:+set}${NOPE:+set}", "1set"),
        ("X=${NOPE:-${A}}", "1"),
        ("X=${NOPE-a b}", "a b"),
        ("X=$LATER\nLATER=x", ""),
        ("X=<$X>", "<>"),
        ("X=a$", "a$"),
        ("X=a`b;c&d", "a`b;c&d"),
    ],
)
def test_a_value_is_what_compose_reads(tmp_path: Path, line: str, value: str) -> None:
    """Field case H4."""
    (tmp_path / ".env").write_text(f"A=1\n{line}\n", newline="")
    assert bash("env_value X", tmp_path) == value


def test_the_environment_wins_then_env_then_the_example(tmp_path: Path) -> None:
    (tmp_path / ".env.example").write_text("A=example\nB=example\nC=example\n")
    (tmp_path / ".env").write_text("A=file\nB=file\n")
    assert bash('echo "$(env_value A) $(env_value B) $(env_value C)$(env_value D)"', tmp_path, A="shell") == (
        "shell file example\n"
    )


def test_a_value_may_refer_to_the_environment(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=file\nB=$A\nC=${EMPTY:-default}\n")
    assert bash('echo "$(env_value B) $(env_value C)"', tmp_path, A="shell", EMPTY="") == "shell default\n"


def test_an_empty_value_in_the_environment_wins(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("API_KEY=secret\n")
    assert bash("env_value API_KEY", tmp_path, API_KEY="") == ""


def test_development_defaults_become_random_secrets(tmp_path: Path) -> None:
    (tmp_path / "example").write_text("A=insecure-dev-default\nB=insecure-dev-default\nC=c")
    first, second, third = bash("with_secrets <example", tmp_path).splitlines()
    assert len(first) == len("A=") + 48
    assert first[2:] != second[2:]
    assert third == "C=c"


def test_settings_that_are_there_are_not_added_again(tmp_path: Path) -> None:
    """Field case H4: a default after the user's own line would win over it."""
    (tmp_path / ".env.example").write_text("KAFKA_PORT=9092\nAPI_KEY=\nNEW=1\nNEW_SECRET=insecure-dev-default\n")
    (tmp_path / ".env").write_text('export KAFKA_PORT=19092\n  API_KEY = "k" # mine\n')
    output = bash("add_missing .env .env.example; add_missing .env .env.example", tmp_path)
    assert output == "say: added to .env: NEW NEW_SECRET\n"
    assert bash('echo "$(env_value KAFKA_PORT) $(env_value API_KEY) $(env_value NEW)"', tmp_path) == "19092 k 1\n"
    assert "insecure" not in (tmp_path / ".env").read_text()


def test_a_renamed_setting_keeps_its_effect_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BRONZE_WATERMARK_MINUTES=45\nFEATURE_STREAM_CAP=7\nTRAINING_HONEST_PER_FRAUD=3\n")
    output = bash("carry_over_renamed .env; carry_over_renamed .env", tmp_path)
    assert output.count("warn: BRONZE_WATERMARK_MINUTES is now BRONZE_LATE_AFTER_MINUTES") == 1
    assert bash("env_value BRONZE_LATE_AFTER_MINUTES", tmp_path) == "45"
    assert bash("env_value FEATURE_STREAM_MAX_PAYMENTS_PER_USER", tmp_path) == "7"
    assert bash("env_value TRAINING_LEGITIMATE_PER_FRAUD", tmp_path) == "3"


def test_an_old_name_in_the_environment_keeps_its_effect(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BRONZE_LATE_AFTER_MINUTES=30\n")
    script = "export_renamed_settings; export_renamed_settings; env_value BRONZE_LATE_AFTER_MINUTES"
    assert bash(script, tmp_path, BRONZE_WATERMARK_MINUTES="45") == (
        "warn: BRONZE_WATERMARK_MINUTES is now BRONZE_LATE_AFTER_MINUTES; rename it in your environment\n45"
    )
    both = {"BRONZE_WATERMARK_MINUTES": "45", "BRONZE_LATE_AFTER_MINUTES": "15"}
    assert bash(script, tmp_path, **both) == "15"


def test_a_new_name_that_is_set_wins_over_the_old_one(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("FEATURE_STREAM_CAP=7\nFEATURE_STREAM_MAX_PAYMENTS_PER_USER=8\n")
    assert bash("carry_over_renamed .env; env_value FEATURE_STREAM_MAX_PAYMENTS_PER_USER", tmp_path) == "8"


def test_old_pins_go_and_a_choice_stays(tmp_path: Path) -> None:
    """Field case H6: a pin that an earlier release froze in .env must not hold back newer ones."""
    env = tmp_path / ".env"
    env.write_text("VERSION=0.1.0\nGRAFANA_IMAGE=mirror/grafana:12\nA='1'\n")
    env.chmod(0o600)
    assert "removed VERSION=0.1.0" in bash("drop_pins .env", tmp_path)
    assert env.read_text() == "GRAFANA_IMAGE=mirror/grafana:12\nA='1'\n"
    assert stat.S_IMODE(env.stat().st_mode) == 0o600


def test_a_pin_is_recognised_however_it_is_written(tmp_path: Path) -> None:
    env = tmp_path / ".env"
    env.write_text('A=1\r\nexport GRAFANA_IMAGE="grafana/grafana:11.6.0" # as it came\r\nVERSION=0.2.0\r\n', newline="")
    bash("drop_pins .env", tmp_path)
    assert env.read_text(newline="") == "A=1\r\nVERSION=0.2.0\r\n"
