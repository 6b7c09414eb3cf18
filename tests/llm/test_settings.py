"""Where the language model's settings come from, and what is refused before anything is sent."""

import os

import pytest

from nas_agent_graph.settings import llm_settings, masked, resolve, split_model
from nas_system.errors import ConfigError

KEY = "sk-canary-0123456789abcdef-7f3a"


def settings(environment, **given):
    return llm_settings(environment, demanded=False, **given)


def test_flags_win_over_the_environment_and_that_over_dotenv(tmp_path):
    (tmp_path / ".env").write_text(
        "NAS_LLM_MODEL=from-file\nNAS_LLM_BASE_URL=http://file/v1\nNAS_LLM_TIMEOUT=7\n"
    )
    environment = {"NAS_LLM_MODEL": "from-environment", "NAS_LLM_BASE_URL": "http://environment/v1"}
    found = settings(environment, flags={"model": "from-flag"}, folders=[tmp_path])
    assert (found.model, found.base_url, found.timeout_s) == ("from-flag", "http://environment/v1", 7.0)
    assert found.sources["model"] == "flag --model"
    assert found.sources["base_url"] == "environment NAS_LLM_BASE_URL"
    assert found.sources["timeout_s"] == f"{tmp_path / '.env'} NAS_LLM_TIMEOUT"
    assert found.sources["temperature"] == "default"


def test_dotenv_never_reaches_the_environment(tmp_path):
    (tmp_path / ".env").write_text(f"NAS_LLM_MODEL=m\nNAS_LLM_API_KEY={KEY}\nNAS_CANARY=1\n")
    before = dict(os.environ)
    assert settings(os.environ, folders=[tmp_path]).api_key == KEY
    assert dict(os.environ) == before


def test_the_workspace_comes_before_the_current_folder(tmp_path):
    workspace, here = tmp_path / "workspace", tmp_path / "here"
    for folder in (workspace, here):
        folder.mkdir()
        (folder / ".env").write_text(f"NAS_LLM_MODEL={folder.name}\nOPENAI_API_KEY=k-{folder.name}\n")
    assert settings({}, folders=[workspace, here]).model == "workspace"
    assert settings({}, folders=[here, workspace]).model == "here"


def test_a_key_that_the_shell_exports_never_replaces_the_one_beside_the_address(tmp_path):
    """The fallbacks are for what nobody has set under our own name, wherever it stands."""
    (tmp_path / ".env").write_text(
        "NAS_LLM_MODEL=local\nNAS_LLM_BASE_URL=http://local/v1\nNAS_LLM_API_KEY=local-key\n"
    )
    shell = {"OPENAI_API_KEY": KEY, "OPENAI_MODEL": "gpt", "OPENAI_BASE_URL": "https://elsewhere/v1"}
    found = settings(shell, folders=[tmp_path])
    assert (found.model, found.base_url, found.api_key) == ("local", "http://local/v1", "local-key")


def test_a_dotenv_is_taken_as_written(tmp_path):
    (tmp_path / ".env").write_text("# a remark\nexport NAS_LLM_MODEL='m'\nNAS_LLM_API_KEY=\"a${HOME}b$c\"\n")
    assert settings({}, folders=[tmp_path]).api_key == "a${HOME}b$c"


def test_a_dotenv_that_is_no_text_is_named_and_not_quoted(tmp_path):
    (tmp_path / ".env").write_bytes(b"NAS_LLM_API_KEY=\xff\xfe" + KEY.encode())
    with pytest.raises(ConfigError, match=r"\.env cannot be read: it is not UTF-8") as refused:
        settings({}, folders=[tmp_path])
    assert KEY not in str(refused.value)


def test_an_empty_value_counts_as_none():
    assert settings({"NAS_LLM_MODEL": "", "OPENAI_API_KEY": KEY}) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gpt-x", ("openai", "gpt-x")),
        ("openai:gpt-x", ("openai", "gpt-x")),
        ("anthropic:claude-x", ("anthropic", "claude-x")),
        ("ollama:qwen3:14b", ("ollama", "qwen3:14b")),
        ("qwen3:14b", ("openai", "qwen3:14b")),
        ("org/model:free", ("openai", "org/model:free")),
    ],
)
def test_a_colon_belongs_to_the_provider_only_if_there_is_one_of_that_name(name, expected):
    assert split_model(name) == expected


def test_one_providers_key_and_address_are_never_used_for_another():
    shell = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "http://openai/v1"}
    with pytest.raises(ConfigError, match="ANTHROPIC_API_KEY"):
        settings({**shell, "NAS_LLM_MODEL": "anthropic:claude-x"})
    found = settings({**shell, "NAS_LLM_MODEL": "anthropic:claude-x", "ANTHROPIC_API_KEY": "other"})
    assert (found.provider, found.api_key, found.base_url) == (
        "anthropic",
        "other",
        "https://api.anthropic.com",
    )
    local = settings({**shell, "NAS_LLM_MODEL": "ollama:qwen3:14b"})
    assert (local.model, local.base_url) == ("qwen3:14b", "http://localhost:11434/v1")
    assert local.api_key != KEY


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"NAS_LLM_BASE_URL": "localhost:11434"}, "is no address"),
        ({"NAS_LLM_BASE_URL": "ftp://x/v1"}, "is no address"),
        ({"NAS_LLM_BASE_URL": "http://x:port/v1"}, "is no address"),
        ({"NAS_LLM_BASE_URL": "http://x/v1/chat/completions"}, "write http://x/v1"),
        ({"NAS_LLM_BASE_URL": f"http://me:{KEY}@x/v1"}, "holds a user or password"),
        ({"NAS_LLM_API_KEY": KEY + "\n" + KEY}, "holds a blank"),
        ({"NAS_LLM_API_KEY": KEY + "…"}, "holds a blank or a character that no key has"),
        ({"NAS_LLM_TEMPERATURE": "nan"}, "not a finite number"),
        ({"NAS_LLM_TEMPERATURE": "-1"}, "0 or more"),
        ({"NAS_LLM_TIMEOUT": "0"}, "above 0"),
        ({"NAS_LLM_TIMEOUT": "soon"}, "NAS_LLM_TIMEOUT='soon' is not a number"),
        ({"NAS_LLM_MODEL": "anthropic:"}, "names a provider but no model"),
        ({"NAS_LLM_MODEL": "groq:llama"}, "groq is not supported by name"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name_and_no_key_is_shown(changed, message):
    with pytest.raises(ConfigError, match=message) as refused:
        settings({"NAS_LLM_MODEL": "m", "NAS_LLM_API_KEY": KEY, **changed})
    assert KEY not in str(refused.value)


def test_blanks_around_a_pasted_key_do_not_matter():
    assert settings({"NAS_LLM_MODEL": "m", "NAS_LLM_API_KEY": f" {KEY}\n"}).api_key == KEY


def test_a_key_shows_in_no_repr_and_only_its_end_where_it_is_long():
    found = resolve({"NAS_LLM_MODEL": "m", "NAS_LLM_API_KEY": KEY}, {}, [])
    assert KEY not in repr(found) + repr(settings({"NAS_LLM_MODEL": "m", "NAS_LLM_API_KEY": KEY}))
    assert str(found["api_key"]) == f"...7f3a ({len(KEY)} characters)"
    assert masked("short") == "(5 characters)"


def test_a_whole_command_reads_dotenv_and_hands_nothing_on(run_cli, tmp_path):
    """The search names the model of `.env` and pauses at its dead address: nothing else was asked."""
    (tmp_path / ".env").write_text("NAS_LLM_MODEL=from-file\nNAS_LLM_BASE_URL=http://127.0.0.1:9/v1\n")
    done = run_cli("nas_agent_graph.doctor", cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    assert f"{tmp_path / '.env'} NAS_LLM_MODEL" in done.stdout
