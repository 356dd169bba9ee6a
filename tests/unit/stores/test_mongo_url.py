from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from fedn.cli.root import root
from fedn.config import ReducerSettings, exposed, load
from fedn.domain.errors import InvalidConfig
from fedn.domain.urls import holds_secret, shown
from fedn.stores import open_models, open_state
from fedn.stores.mongo_url import read_url

SECRET = "geheim"


def test_an_address_says_where_and_who():
    url = read_url("mongodb://fed%40n:p%40ss@a:1,b/net?replicaSet=rs0", {})
    assert (url.hosts, url.database, url.user, url.login) == ("a:1, b:27017", "net", "fed@n", {})
    assert read_url("mongodb://localhost", {}).database == "fedn"
    assert url.missing(replicaSet="other", appname="fedn") == {"appname": "fedn"}


@pytest.mark.parametrize("url", ["mongodb://me@host/net", "mongodb://host/net"])
def test_a_password_comes_from_the_environment_or_a_file(url: str, tmp_path: Path):
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\n")
    for variables in ({"FEDN_MONGO_PASSWORD": SECRET}, {"FEDN_MONGO_PASSWORD_FILE": str(file)}):
        found = read_url(url, {"FEDN_MONGO_USER": "me", **variables})
        assert found.login == {"username": "me", "password": SECRET, "authSource": "net"}
        assert SECRET not in repr(found)
    assert read_url(f"{url}?authSource=admin", {"FEDN_MONGO_USER": "me", **variables}).login[
        "authSource"
    ] == "admin"  # fmt: skip


@pytest.mark.parametrize(
    ("variables", "match"),
    [({}, "PASSWORD: is not set"), ({"FEDN_MONGO_PASSWORD_FILE": "/nowhere"}, "No such file"),
     ({"FEDN_MONGO_PASSWORD_FILE": "/dev/null"}, "is empty"),
     ({"FEDN_MONGO_PASSWORD_FILE": "/dev/zero"}, "holds too much"),
     ({"FEDN_MONGO_PASSWORD_FILE": "/x", "FEDN_MONGO_PASSWORD": SECRET}, "given beside")],
)  # fmt: skip
def test_a_user_without_a_password_is_told_how_to_give_it(variables: dict[str, str], match: str):
    with pytest.raises(InvalidConfig, match=match) as caught:
        read_url("mongodb://me@host/net", variables)
    assert SECRET not in caught.value.message


@pytest.mark.parametrize(
    "url",
    [f"mongodb://me:{SECRET}@host:port/net", f"mongodb://me:{SECRET}/x@host/net", f"mongodb://me:{SECRET}@",
     f"mongodb://me:{SECRET}@host/n n", f"mongodb://me:{SECRET}@host/net?nonsense=1",
     f"mongodb://me:x?{SECRET}@host", f"mongo://me:{SECRET}@host", f"mongodb://me:x@{SECRET}@host/net",
     f"mongodb://me:{SECRET}@host/net?w=x&j=2", f"mongodb+srv://me:{SECRET}@host/net",
     f"mongodb://host/net?tlsCertificateKeyFilePassword={SECRET}&nonsense=1",
     f"mongodb://me:{SECRET}@host/net?tlsCAFile=/nowhere&tls=true"],
)  # fmt: skip
def test_no_refusal_shows_a_password(url: str):
    for open_store in (open_state, open_models):
        with pytest.raises(InvalidConfig) as caught:
            open_store(url)
        assert SECRET not in caught.value.message
        assert SECRET not in repr(caught.value.details)


@pytest.mark.parametrize(
    ("url", "expected"),
    [("mongodb://me:p@host/net", "mongodb://me:***@host/net"), ("mongodb://me@host", "mongodb://me@host"),
     ("mongodb://me:a@b/c:d@host/net?x=1", "mongodb://me:***@host/net?x=1"),
     ("mongodb://h/n?tlsCertificateKeyFilePassword=p&w=1", "mongodb://h/n?tlsCertificateKeyFilePassword=***&w=1"),
     ("sqlite:////home/a:b@c/x.db", "sqlite:////home/a:b@c/x.db"), ("file:///a:b@c", "file:///a:b@c"),
     ("s3://bucket?secret_key=p&access-key=q&x=1", "s3://bucket?secret_key=***&access-key=***&x=1"),
     ("s3://bucket/prefix?endpoint=http://host", "s3://bucket/prefix?endpoint=http://host")],
)  # fmt: skip
def test_an_address_is_shown_without_its_password(url: str, expected: str):
    assert shown(url) == expected
    assert holds_secret(url) is ("***" in expected)


def test_settings_never_show_a_password(tmp_path: Path):
    file = tmp_path / "settings-reducer.yaml"
    file.write_text(f"state_store: mongodb://me:{SECRET}@host/net\n")
    file.chmod(0o644)
    settings = load(ReducerSettings, file, environ={})
    assert settings.state_store == f"mongodb://me:{SECRET}@host/net"
    assert settings.as_dict()["state_store"] == "mongodb://me:***@host/net"
    assert SECRET not in repr(settings)
    assert "holds state_store, and everybody here may read it" in exposed(ReducerSettings, file)
    shown_by_command = CliRunner().invoke(root, ["config", "show", "reducer", "-c", str(file), "--json"])
    assert "mongodb://me:***@host/net" in shown_by_command.output
    assert SECRET not in shown_by_command.output
