"""The pages of models: lists, upload of a seed, one model, two compared, the trail; and that of a package."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from package_files import FILES, MANIFEST, archive
from safetensors.numpy import save

from fedn.config import ReducerSettings
from fedn.domain.plan import Plan
from fedn.domain.round import store_record
from fedn.domain.update import Absence
from fedn.packages.archive import inspect
from fedn.ports import PackageInfo

SITE = "https://fl.example.org"
EVIL = "<script>alert(1)</script>"


@pytest.fixture
def browse(net):
    """What a role sees of an address, with the status that is expected."""
    app = net.app()

    def seen(address, role="operator", status=200, **headers):
        headers["Authorization"] = f"Bearer {net.token(role)}"
        answer = app.test_client().get(address, base_url=SITE, headers=headers)
        text = answer.get_data(as_text=True)
        assert answer.status_code == status, text[:2000]
        assert EVIL not in text
        ids = re.findall(r'\bid="([^"]*)"', text)
        assert len(ids) == len(set(ids))
        assert 'style="' not in text
        return answer.headers["Location"] if status == 302 else text

    return seen


def words(text: str) -> str:
    """A page without its marks, in single spaces."""
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())


# --- lists, and the upload -------------------------------------------------------------------------


def test_without_models_the_pages_say_what_to_do(browse):
    assert "fedn model seed FILE" in browse("/models")
    assert 'href="/seed"' in browse("/models")
    assert 'href="/seed"' not in browse("/models", "viewer")


def test_who_may_gets_the_form_for_a_seed(browse):
    text = browse("/seed")
    assert f'data-limit="{int(ReducerSettings().max_model_bytes)}"' in text
    assert 'data-check="/api/v1/models/check"' in text
    assert 'data-keep="/api/v1/models"' in text
    text = browse("/seed", "viewer")
    assert "<form id=" not in text
    assert "seed.js" not in text


def test_seeds_and_the_newest_of_sessions_are_listed_in_pages(browse, service, small):
    info = small.seeded(service)
    service.commit(info.session, 0.5)
    head = service.state.session(info.session).head.model
    first = service.seed_model([small.model_file(-1.0)], EVIL, 0).digest
    for n in range(50):
        service.seed_model([small.model_file(100.0 + n)], f"seed {n}", 0)
    text = browse("/models")
    assert f'href="/models/{head}"' in text
    assert first not in text
    assert "page 1 of 2" in text
    text = browse("/models?seeds=2")
    assert f'href="/models/{first}"' in text
    assert "&lt;script&gt;" in text
    assert f'href="/models/{head}"' in text
    browse("/models?seeds=x", status=400)


def test_two_that_are_chosen_lead_to_their_comparison(browse, service, small):
    one, two = (service.seed_model([small.model_file(n)], "x", 0).digest for n in (1.0, 2.0))
    asked = f"/models?compare={one}&compare={two}"
    assert browse(asked, status=302) == f"/models/{one}/compare/{two}"
    assert "Tick two models, not 1." in browse(f"/models?compare={one}")
    browse("/models?compare=..%2F&compare=x", status=400)


# --- one model, two models -------------------------------------------------------------------------


def test_a_model_of_a_round_tells_of_its_tensors_origin_and_work(browse, service, small):
    info = small.seeded(service)
    for _ in range(2):
        service.commit(info.session, 0.5)
    genesis, first, second = (one.record.model for one in service.state.records(info.session))
    text = browse(f"/models/{first}")
    told = words(text)
    for part in ("round 1 of digits", "what the session began with", "the seed model zeros",
                 "Then round 2 was trained from it", "30 examples in round 1 , through 1 combiner",
                 "client-b 20 66.7 %", "w 4 F32 4 16"):  # fmt: skip
        assert part in told, (part, told)
    for address in (f"/models/{genesis}/compare/{first}", f"/models/{first}/compare/{second}",
                    f"/start?model={first}&amp;like={info.session}",
                    f"/api/v1/models/{first}?format=npz"):  # fmt: skip
        assert f'href="{address}"' in text, address
    assert "format=keras" not in text
    text = browse(f"/models/{first}", "viewer")
    assert "format=npz" not in text
    assert "/start?" not in text


def test_a_model_that_began_another_session_tells_of_it(browse, service, small):
    older = small.seeded(service)
    service.commit(older.session, 0.5)
    model = service.state.session(older.session).head.model
    younger = service.start_session(EVIL, model, Plan())
    assert "&lt;script&gt;" in browse(f"/models/{model}")
    assert "round 1 of digits , another session" in words(browse(f"/sessions/{younger.session}/trail"))


def test_many_tensors_come_in_pages(browse, service):
    file = save({f"t{n:03}": np.zeros(1, np.float32) for n in range(130)})
    model = service.seed_model([file], "many", 0).digest
    text = browse(f"/models/{model}")
    assert "t099" in text
    assert "t100" not in text
    assert 'href="?after=99#tensors"' in text
    text = browse(f"/models/{model}?after=99")
    assert "t129" in text
    assert 'href="?after=-1#tensors"' in text


def test_what_was_pruned_is_said_to_be(browse, service, small):
    info = small.seeded(service)
    for _ in range(3):
        service.commit(info.session, 0.5)
    gone = service.state.record(info.session, 2).record.model
    service.state.mark_pruned([gone], 1.5)
    service.models.delete(gone)
    text = browse(f"/models/{gone}")
    assert "was pruned on 1970-01-01" in text
    assert "/compare/" not in text
    assert "/start?" not in text
    trail = browse(f"/sessions/{info.session}/trail")
    assert trail.count(">pruned<") == 1
    assert f"start?model={gone}" not in trail
    assert f"{gone}/compare" not in trail
    assert f"compare/{gone}" not in trail


def test_what_is_no_model_here_is_not_found(browse, service):
    browse("/models/" + "0" * 64, status=404)
    browse("/models/x", status=400)
    browse(f"/models/{'0' * 64}/compare/{'1' * 64}", status=404)
    digest, _ = service.models.put([archive()])
    browse(f"/models/{digest}", status=400)


def test_an_open_page_of_a_model_is_not_computed_again(browse, service, small):
    info = small.seeded(service)
    model = info.head.model
    for address in (f"/models/{model}", f"/models/{model}/compare/{model}"):
        text = browse(address, **{"Fedn-Live": "1"})
        assert 'id="state"' in text
        assert model[:12] not in text


def test_two_models_are_compared_tensor_by_tensor(browse, service):
    shared = np.full(4, 1.0, np.float32)
    first = service.seed_model([save({"a": shared, "b": shared, EVIL: shared, "c": shared})], "one", 0).digest
    second = service.seed_model(
        [save({"a": shared, "b": shared * 3, "c": shared[:2], "d": shared})], "two", 0
    ).digest
    text = browse(f"/models/{first}/compare/{second}")
    told = words(text)
    assert "seed model one" in told
    assert "a 4 F32 0.0000 0 % 0.0000 b 4 F32 4.0000 200 % 2.0000" in told
    assert re.search(r'<progress max="4.0" value="4.0" aria-label="Norm of the difference in b">', text)
    assert "Only in the first 1" in told
    assert "Only in the second 1 d" in told
    assert "c 4 → 2" in told
    assert "the very same model" in browse(f"/models/{first}/compare/{first}")


# --- the trail -------------------------------------------------------------------------------------


def test_the_trail_goes_back_to_the_seed(browse, service, small):
    info = small.seeded(service)
    for _ in range(22):
        service.commit(info.session, 0.5)
    text = browse(f"/sessions/{info.session}/trail")
    rounds = [int(number) for number in re.findall(r'id="round-(\d+)"', text)]
    assert rounds == list(range(22, 2, -1))
    assert "2 contributors with 30 examples" in text
    assert service.state.record(info.session, 22).digest[:12] in text
    assert "?until=2" in text
    text = browse(f"/sessions/{info.session}/trail?until=2")
    assert re.findall(r'id="round-(\d+)"', text) == ["2", "1", "0"]
    assert "The seed model zeros ." in words(text)
    assert "/start?model=" in text
    assert "/start?model=" not in browse(f"/sessions/{info.session}/trail", "viewer")
    browse("/sessions/nobody/trail", status=404)


def test_who_was_refused_or_lost_is_in_the_trail(browse, service, small):
    info = small.seeded(service)
    service.commit(info.session, 0.5)
    record = service.state.record(info.session, 1).record
    more = replace(
        record, round=2, parent=service.state.session(info.session).head.record, base_model=record.model,
        refused=(Absence("client-x", EVIL),), lost=(Absence("client-y", "the deadline was over"),),
    )  # fmt: skip
    service.state.commit_round(store_record(more), service.term)
    told = words(browse(f"/sessions/{info.session}/trail"))
    assert "1 refused · 1 lost" in told
    assert "lost client-y: the deadline was over" in told
    assert "it changed nothing" in told


def test_a_trail_that_cannot_be_read_can_still_be_verified(browse, service, small):
    info = replace(small.seeded(service), session="damaged")
    service.state.import_session(info, [(0, info.head.record, b"{}")], service.term)
    text = browse("/sessions/damaged/trail")
    assert "These records can't be read" in words(text).replace("&#39;", "'")
    assert 'id="verify"' in text


# --- packages --------------------------------------------------------------------------------------


@pytest.fixture
def package(service):
    """A package that is here, with a description from a stranger and a file that is no text."""
    files = {
        **FILES,
        "fedn.yaml": MANIFEST.replace("Digits.", EVIL),
        "app.py": f"# {EVIL}\n{FILES['app.py']}",
        "data.bin": b"\x00\xff",
    }
    packed = archive(files)
    found = inspect(packed)
    service.models.put([packed])
    service.state.add_package(
        PackageInfo(found.digest, found.size, found.manifest.name, found.manifest.as_dict(), 2.5)
    )
    return found.digest


def test_a_package_is_shown_with_its_files_and_sessions(browse, service, small, package):
    small.seeded(service, package=package)
    told = words(browse(f"/packages/{package}"))
    for part in ("startup Python app:startup", "validate command python validate.py &lt;model_in&gt;",
                 "learning_rate 0.001", "numpy&gt;=1.26", "name: mnist-keras", "digits running",
                 "tools/prepare.sh"):  # fmt: skip
        assert part in told, (part, told)
    assert "def train(model, data, config)" in words(browse(f"/packages/{package}?file=app.py"))
    assert "is not text in UTF-8" in browse(f"/packages/{package}?file=data.bin")
    browse(f"/packages/{package}?file=../secrets", status=404)
    browse("/packages/" + "0" * 64, status=404)
    assert f'href="/packages/{package}"' in browse("/packages")


def test_a_session_is_started_with_a_package(browse, service, small, package):
    small.seeded(service)
    assert f'href="/start?package={package}"' in browse(f"/packages/{package}")
    assert "/start?" not in browse(f"/packages/{package}", "viewer")
    assert f'<option value="{package}" selected>' in browse(f"/start?package={package}")


def test_a_package_whose_archive_is_gone_is_still_told_of(browse, service, package):
    service.models.delete(package)
    told = words(browse(f"/packages/{package}"))
    assert "learning_rate 0.001" in told
    assert package in told
