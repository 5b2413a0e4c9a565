"""Config files: complaints with their place, overrides, fingerprints."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from astraios import config
from astraios.config import OPERATIONAL, Config, fingerprint, identity, parse_yaml, read_yaml
from astraios.errors import AstraiosError, ConfigError, MissingDataError


class Optimizer(Config):
    learning_rate: float = 1e-4
    betas: tuple[float, ...] = (0.9, 0.95)


class Arm(Config):
    name: str
    optimizer: Optimizer = Optimizer()
    n_workers: int = Field(default=1, json_schema_extra=OPERATIONAL)


class Plan(Config):
    name: str = "plan"
    n_steps: int = 10
    optimizer: Optimizer = Optimizer()
    arms: tuple[Arm, ...] = ()
    by_name: dict[str, Arm] = Field(default_factory=dict)
    tags: frozenset[str] = frozenset()
    options: dict[str, Any] = Field(default_factory=dict)
    n_workers: int = Field(default=1, json_schema_extra=OPERATIONAL)


def complaint(text, *overrides):
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, Plan, overrides, source="plan.yaml")
    return str(caught.value)


# --- reading ----------------------------------------------------------------------------------


def test_yaml_becomes_the_model():
    read = parse_yaml("n_steps: 3\noptimizer: {learning_rate: 0.5}", Plan)
    assert read == Plan(n_steps=3, optimizer=Optimizer(learning_rate=0.5))


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "---\n", "null"])
def test_empty_file_means_all_defaults(text):
    assert parse_yaml(text, Plan) == Plan()


def test_file_is_read_as_utf8(tmp_path):
    (tmp_path / "plan.yaml").write_bytes("name: été 計画".encode())
    assert read_yaml(tmp_path / "plan.yaml", Plan).name == "été 計画"


def test_byte_order_mark_is_skipped(tmp_path):
    (tmp_path / "plan.yaml").write_bytes("\ufeffname: x\n".encode())
    assert read_yaml(tmp_path / "plan.yaml", Plan).name == "x"


def test_config_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Plan().n_steps = 4


def test_missing_file_is_named(tmp_path):
    with pytest.raises(MissingDataError, match=r"absent\.yaml' does not exist"):
        read_yaml(tmp_path / "absent.yaml", Plan)


def test_bytes_that_are_no_text_are_refused_with_their_place(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_bytes(b"name: \xff")
    with pytest.raises(ConfigError, match=r"plan\.yaml: not UTF-8 text \(.* at byte 6\)"):
        read_yaml(path, Plan)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_unreadable_file_is_a_config_error(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text("name: x")
    path.chmod(0)
    with pytest.raises(ConfigError, match=r"plan\.yaml: cannot be read"):
        read_yaml(path, Plan)


# --- malformed YAML ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("name: x\n\tn_steps: 3\n", "plan.yaml:2:1: malformed YAML"),
        ("name: x\narms: [1, 2\n", "plan.yaml:3:1: malformed YAML"),
        ("name: x\nname2: a: b\n", "plan.yaml:2:9: malformed YAML"),
        ("name: *unknown\n", "plan.yaml:1:7: malformed YAML"),
        ("name: x\n---\nname: y\n", "plan.yaml:2:1: malformed YAML"),
        ("name: !!python/object:os.system x\n", "plan.yaml:1:7: malformed YAML"),
        ("? [a, b]\n: x\n", "plan.yaml:1:3: malformed YAML"),
        ("name: x\nn_steps: 2024-13-45\n", "plan.yaml:2:10: malformed YAML"),
        ("n_steps: 0b_\n", "plan.yaml:1:10: malformed YAML"),
        ("n_steps: 3\nname: a\x00b\n", "plan.yaml:2: malformed YAML: character U+0000"),
    ],
)
def test_malformed_yaml_is_refused_with_its_place(text, place):
    assert complaint(text).startswith(place)


@pytest.mark.parametrize("text", ["options: &x {self: *x}", "options: " + "[" * 5000])
def test_endless_nesting_is_refused(text):
    assert "nested too deeply, or an alias that holds itself" in complaint(text)


@pytest.mark.parametrize(
    ("text", "kind"), [("- 1\n- 2", "a list"), ("words", "text"), ("3", "int")]
)
def test_file_that_holds_no_fields_is_refused(text, kind):
    assert complaint(text) == f"plan.yaml:1: expected `field: value` lines, found {kind}"


@given(st.text(max_size=60))
def test_any_text_gives_a_config_or_one_of_our_errors(text):
    try:
        assert isinstance(parse_yaml(text, Plan), Plan)
    except AstraiosError as error:
        assert str(error).startswith("config")


@given(st.text(alphabet="ab:{}[]-&*?!|>#'\"\n\t ,0b2_.", max_size=40))
def test_any_punctuation_gives_a_config_or_one_of_our_errors(text):
    try:
        assert isinstance(parse_yaml(text, Plan), Plan)
    except AstraiosError as error:
        assert str(error).startswith("config")


# --- wrong fields -----------------------------------------------------------------------------


def test_unknown_field_is_refused_with_line_and_nearest_name():
    message = complaint("name: x\n\nn_step: 3\n")
    assert message.startswith("plan.yaml:3: unknown field 'n_step'; known: name, n_steps, ")
    assert message.endswith("Did you mean 'n_steps'?")


def test_unknown_field_inside_another_gets_that_ones_names():
    assert complaint("optimizer:\n  learning_rat: 1\n") == (
        "plan.yaml:2: unknown field 'optimizer.learning_rat'; known: learning_rate, betas. "
        "Did you mean 'learning_rate'?"
    )


def test_unknown_field_in_a_list_names_its_position():
    message = complaint("arms:\n  - name: a\n  - name: b\n    optimiser: {}\n")
    assert message.startswith("plan.yaml:4: unknown field 'arms.1.optimiser'; known: name, ")
    assert message.endswith("Did you mean 'optimizer'?")


def test_missing_field_is_refused_with_the_line_of_its_parent():
    assert complaint("name: x\narms:\n  - {}\n") == "plan.yaml:3: field 'arms.0.name' is missing"


def test_wrong_value_is_refused_with_line_and_what_was_seen():
    message = complaint("name: x\nn_steps: many\n")
    assert message.startswith("plan.yaml:2: n_steps: input should be a valid integer")
    assert message.endswith("(found 'many')")


def test_long_wrong_value_is_shortened():
    assert len(complaint("n_steps: " + "x" * 10_000)) < 300


def test_every_wrong_field_is_told_at_once():
    lines = complaint("n_steps: many\nnmae: x\noptimizer: 3\n").splitlines()
    assert [line.split(" ")[0] for line in sorted(lines)] == [f"plan.yaml:{n}:" for n in (1, 2, 3)]


def test_key_that_is_no_text_is_refused_with_its_line():
    assert complaint("name: x\n3: y\n").startswith("plan.yaml:2: 3: keys should be strings")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\nn_steps: 1\nname: y\n", "plan.yaml:3: field 'name' is given twice, first at"),
        ("optimizer:\n  betas: []\n  betas: []\n", "plan.yaml:3: field 'betas' is given twice"),
        ("arms:\n- name: a\n  name: b\n", "plan.yaml:3: field 'name' is given twice"),
        ("options: {a: 1, a: 1}", "plan.yaml:1: field 'a' is given twice"),
    ],
)
def test_field_given_twice_is_refused(text, message):
    assert complaint(text).startswith(message)


def test_one_name_in_two_places_is_not_twice():
    read = parse_yaml("name: x\narms: [{name: x}, {name: x}]", Plan)
    assert [arm.name for arm in read.arms] == ["x", "x"]


# --- overrides --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "field", "value"),
    [
        ("n_steps=7", "n_steps", 7),
        ("name=a=b", "name", "a=b"),
        (" name = spaced ", "name", "spaced"),
        ("tags=[a, b]", "tags", frozenset({"a", "b"})),
        ("arms=[{name: a}]", "arms", (Arm(name="a"),)),
        ("optimizer.learning_rate=1e-3", "optimizer", Optimizer(learning_rate=1e-3)),
        ("options.deep.er=null", "options", {"deep": {"er": None}}),
    ],
)
def test_override_sets_one_field(override, field, value):
    assert getattr(parse_yaml("n_steps: 1", Plan, [override]), field) == value


def test_override_leaves_the_neighbours_alone():
    read = parse_yaml("optimizer: {learning_rate: 1, betas: [0]}", Plan, ["optimizer.betas=[1]"])
    assert read.optimizer == Optimizer(learning_rate=1, betas=(1,))


def test_later_override_wins():
    assert parse_yaml("", Plan, ["n_steps=1", "n_steps=2"]).n_steps == 2


def test_override_does_not_reach_through_an_alias():
    text = "options: {a: &shared {x: 1}, b: *shared}"
    read = parse_yaml(text, Plan, ["options.a.x=2"])
    assert read.options == {"a": {"x": 2}, "b": {"x": 1}}


@pytest.mark.parametrize("override", ["n_steps", "=3", "", "a..b=1", ".a=1", "a.=1"])
def test_override_of_another_form_is_refused(override):
    expected = f"override {override!r} is not of the form field.subfield=value"
    assert complaint("", override) == expected


@pytest.mark.parametrize("value", ["[1", "2024-13-45", "{a: b: c}", "\x00"])
def test_override_with_a_malformed_value_is_refused(value):
    assert complaint("", f"name={value}").endswith(f"{value!r} is not a YAML value")


def test_override_inside_a_plain_value_is_refused():
    assert complaint("name: x", "name.y=1") == "override 'name.y=1': 'name' holds text, not fields"


def test_wrong_value_of_an_override_is_not_blamed_on_the_file():
    message = complaint("n_steps: 1\n", "n_steps=many")
    assert message.startswith("override 'n_steps=many': n_steps: input should be a valid integer")


def test_unknown_field_of_an_override_is_named_as_such():
    message = complaint("n_steps: 1\n", "optimizer.learning_rte=1")
    assert message.startswith("override 'optimizer.learning_rte=1': unknown field")
    assert message.endswith("Did you mean 'learning_rate'?")


# --- fingerprints -----------------------------------------------------------------------------

VALUES = st.fixed_dictionaries(
    {},
    optional={
        "name": st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
        "n_steps": st.integers(0, 10**6),
        "optimizer": st.fixed_dictionaries(
            {}, optional={"learning_rate": st.floats(0, 1), "betas": st.lists(st.floats(0, 1))}
        ),
        "tags": st.lists(st.sampled_from("abcdef"), unique=True),
        "options": st.dictionaries(
            st.text("xyz", max_size=3), st.none() | st.integers() | st.text("ab"), max_size=4
        ),
    },
)


def backwards(value):
    if isinstance(value, dict):
        return {key: backwards(item) for key, item in reversed(value.items())}
    return value


@given(VALUES)
def test_fingerprint_does_not_depend_on_the_order_of_fields(values):
    assert fingerprint(Plan(**values)) == fingerprint(Plan(**backwards(values)))


@given(VALUES)
def test_fingerprint_survives_writing_and_reading(values):
    made = Plan(**values)
    read = Plan.model_validate_json(made.model_dump_json())
    assert fingerprint(read) == fingerprint(made)


@given(VALUES, VALUES)
def test_different_configs_have_different_fingerprints(one, other):
    same = Plan(**one) == Plan(**other)
    assert (fingerprint(Plan(**one)) == fingerprint(Plan(**other))) == same


@given(VALUES, st.integers(1, 64))
def test_operational_fields_do_not_count(values, n_workers):
    plain = Plan(**values, arms=(Arm(name="a"),), by_name={"k": Arm(name="b")})
    tuned = Plan(
        **values,
        arms=(Arm(name="a", n_workers=n_workers),),
        by_name={"k": Arm(name="b", n_workers=n_workers)},
        n_workers=n_workers,
    )
    assert fingerprint(plain) == fingerprint(tuned)


def test_identity_leaves_operational_fields_out_at_any_depth():
    known = identity(Plan(arms=(Arm(name="a"),), by_name={"k": Arm(name="b")}))
    assert "n_workers" not in known
    assert "n_workers" not in known["arms"][0]
    assert "n_workers" not in known["by_name"]["k"]


def test_fingerprint_is_twelve_hex_digits():
    assert len(fingerprint(Plan())) == 12
    assert set(fingerprint(Plan())) <= set("0123456789abcdef")


def test_fingerprint_of_a_set_is_equal_in_every_process():
    """String hashes, and with them the order of sets, differ from process to process."""
    program = (
        "from astraios.config import Config, fingerprint\n"
        "class Plan(Config):\n"
        "    tags: frozenset[str]\n"
        "print(fingerprint(Plan(tags=frozenset('abcdefgh'))))"
    )
    prints = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(prints) == 1


# --- environment ------------------------------------------------------------------------------


def test_data_folder_given_wins_over_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("ASTRAIOS_DATA", "/nowhere")
    assert config.data_dir(tmp_path) == tmp_path


def test_data_folder_of_the_variable_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("ASTRAIOS_DATA", str(tmp_path))
    assert config.data_dir() == tmp_path


def test_without_any_data_folder_there_is_none(monkeypatch):
    monkeypatch.delenv("ASTRAIOS_DATA", raising=False)
    assert config.data_dir() is None


@pytest.mark.parametrize(("given_", "origin"), [(True, "--data-dir"), (False, "ASTRAIOS_DATA")])
def test_data_folder_that_is_none_is_refused_with_its_origin(tmp_path, monkeypatch, given_, origin):
    absent = tmp_path / "absent"
    monkeypatch.setenv("ASTRAIOS_DATA", str(absent))
    with pytest.raises(MissingDataError, match=f"{origin}.*absent"):
        config.data_dir(absent if given_ else None)


def test_tools_see_a_few_variables_only(monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "x")
    assert set(config.tool_environment()) <= {"PATH", "LANG", "LC_ALL", "TMPDIR"}
