from __future__ import annotations

from pathlib import Path

import pytest

from fedn.domain.errors import InvalidConfig
from fedn.stores.s3_url import AMAZON, Keys, keys_from, place_from

PLAIN = "s3://models/a/b?endpoint=http://store.example.org"


def test_everything_but_the_bucket_may_be_left_out():
    place = place_from("s3://models", environ={})
    assert (place.bucket, place.prefix, place.endpoint, place.region) == ("models", "", AMAZON, "us-east-1")
    assert (place.public_endpoint, place.proxy, place.path_style) == (AMAZON, False, None)
    assert place.cache == Path("/var/tmp")
    assert place_from("s3://models", environ={"TMPDIR": "/fast"}).cache == Path("/fast")


def test_every_option_is_read():
    place = place_from(
        "s3://models/net-1/?endpoint=https://store:9000/&public_endpoint=https://s3.example.org&region=eu-north-1"
        "&path_style=true&ca=/etc/ca%20s.pem&proxy=true&cache=/var/fedn&cache_bytes=12"
    )
    assert (place.prefix, place.endpoint) == ("net-1/", "https://store:9000")
    assert (place.public_endpoint, place.region) == ("https://s3.example.org", "eu-north-1")
    assert (place.path_style, place.ca, place.proxy) == (True, "/etc/ca s.pem", True)
    assert (place.cache, place.cache_bytes) == (Path("/var/fedn"), 12)


@pytest.mark.parametrize(("url", "named"), [
    ("s3://", "bucket"),
    ("s3://B", "bucket"),
    ("s3://[", "can't be read"),
    ("s3://models/../x", "prefix"),
    ("s3://models/a//b", "prefix"),
    ("s3://models/a#b", "prefix"),
    ("s3://models?endpoint=store:9000", "endpoint"),
    ("s3://models?endpoint=https://store/path", "endpoint"),
    ("s3://models?region=EU", "region"),
    ("s3://models?proxy=yes", "proxy"),
    ("s3://models?cache_bytes=8GiB", "cache_bytes"),
    ("s3://models?proxy", "can't be read"),
    ("s3://models?proxy=true&proxy=false", "twice"),
    ("s3://models?secure=false", "unknown option 'secure'"),
])  # fmt: skip
def test_what_is_wrong_is_named(url: str, named: str):
    with pytest.raises(InvalidConfig, match=named) as caught:
        place_from(url)
    assert str(caught.value.details["field"]).startswith("model_store")


@pytest.mark.parametrize("url", [
    "s3://me:hunter2@models",
    "s3://me:hunter2",
    "s3://models?endpoint=https://me:hunter2@store",
    "s3://models?secret_key=hunter2",
    "s3://models?region=us-east-1&hunter2",
])  # fmt: skip
def test_a_secret_in_the_url_is_refused_and_not_repeated(url: str):
    with pytest.raises(InvalidConfig) as caught:
        place_from(url)
    assert "hunter2" not in str(caught.value)


def test_plain_http_beyond_this_machine_is_asked_for_loudly():
    with pytest.raises(InvalidConfig, match="plain HTTP"):
        place_from(PLAIN)
    with pytest.raises(InvalidConfig, match=r"public_endpoint: .* is plain HTTP"):
        place_from("s3://models?endpoint=http://127.0.0.1:9000&public_endpoint=http://store.example.org")
    assert place_from(PLAIN + "&insecure=true").endpoint == "http://store.example.org"
    assert place_from("s3://models?endpoint=http://[::1]:9000").endpoint == "http://[::1]:9000"


def test_keys_come_from_the_environment_or_files(tmp_path: Path):
    file = tmp_path / "secret"
    file.write_text("hunter2\n")
    ours = {"FEDN_S3_ACCESS_KEY": "me", "FEDN_S3_SECRET_KEY": "hunter2"}
    amazon = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_SESSION_TOKEN": "c"}
    assert keys_from(ours | amazon) == Keys("me", "hunter2")
    assert keys_from(amazon) == Keys("a", "b", "c")
    assert keys_from({"FEDN_S3_ACCESS_KEY": "me", "FEDN_S3_SECRET_KEY_FILE": str(file)}) == Keys(
        "me", "hunter2"
    )
    assert "hunter2" not in repr(keys_from(ours))
    assert "'b'" not in repr(keys_from(amazon))


@pytest.mark.parametrize(("environ", "named"), [
    ({}, "FEDN_S3_ACCESS_KEY: is not set"),
    ({"FEDN_S3_ACCESS_KEY": "me", "AWS_SECRET_ACCESS_KEY": "b"}, "FEDN_S3_SECRET_KEY: is not set"),
    ({"AWS_ACCESS_KEY_ID": "a"}, "AWS_SECRET_ACCESS_KEY: is not set"),
    ({"FEDN_S3_ACCESS_KEY": "me", "FEDN_S3_SECRET_KEY": "x", "FEDN_S3_SECRET_KEY_FILE": "y"}, "beside"),
    ({"FEDN_S3_ACCESS_KEY": "me", "FEDN_S3_SECRET_KEY_FILE": "/nowhere/x"}, "can't be read"),
    ({"FEDN_S3_ACCESS_KEY": "me", "FEDN_S3_SECRET_KEY_FILE": "/dev/null"}, "SECRET_KEY_FILE: is not set"),
])  # fmt: skip
def test_missing_keys_are_named(environ: dict[str, str], named: str):
    with pytest.raises(InvalidConfig, match=named):
        keys_from(environ)
