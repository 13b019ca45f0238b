"""The service's pages as a browser shows them: whole on a screen and on a phone, light and dark,
nothing from elsewhere, HTML in names shown as text, and alive.

`SCREENSHOTS=FOLDER make test-browser` keeps the pictures, to be looked at.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from api_support import PLAN, Service, service
from browser_support import Shown, keep
from client_support import listening
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from service.actions import confirm, hosted_changes, promote
from service.actions.promote import Promoted
from service.driver.lock import sweep_lock
from service.driver.log import driver_log
from service.events import DriverEvent, Notice, TrialEnded, TrialEvaluated, TrialStarted
from service.home import sweeps_folder
from service.plan.estimates import InputFacts
from service.plan.places import plan_file
from service.record.registry import Version
from service.states import TrialState

pytestmark = pytest.mark.browser

TRICK = "<img src=x onerror=\"document.title='owned'\">"
# What a screen reader has no name for.
UNNAMED = """
[...document.querySelectorAll('button, a, input:not([hidden], [type=hidden]), select, textarea')]
  .filter((one) => !(one.textContent.trim() || one.labels?.length)).length
"""
SIZES = [(1400, "light"), (400, "dark"), (1400, "dark"), (400, "light")]
LIVE = PLAN.model_copy(update={"sweep_id": "toy-live"})


@dataclass
class Site:
    """A served service, and the browser that shows it."""

    service: Service
    browser: Chrome
    address: str

    def open(self, path: str) -> Shown:
        self.browser.get(f"{self.address}{path}")
        return Shown(self.browser)

    def size(self, width: int, scheme: str) -> None:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)

    def wait(self, ready: Callable[[], Any], what: str) -> Any:
        end = time.monotonic() + 60
        while not (found := ready()):
            assert time.monotonic() < end, (what, Shown(self.browser).complaints())
            time.sleep(0.05)
        return found

    def text(self, selector: str) -> str:
        found = self.browser.find_elements(By.CSS_SELECTOR, selector)
        return str(found[0].text) if found else ""

    def log_in(self, user: str = "anna") -> None:
        self.browser.delete_all_cookies()
        self.open("/login")
        self.browser.find_element(By.ID, "token").send_keys(self.service.tokens[user])
        self.browser.find_element(By.CSS_SELECTOR, ".login button").click()
        self.wait(lambda: self.browser.find_elements(By.ID, "sweeps"), "the list")


@pytest.fixture(scope="module")
def site(chromium: Chrome, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with service(tmp_path_factory.mktemp("pages")) as made, listening(made, lifespan="on") as at:
        yield Site(made, chromium, at.address)


@dataclass
class Driver:
    """Stands for a sweep's driver: holds its lock, and writes its log."""

    write: Callable[[DriverEvent], None]

    def trial(self, number: int, *, ends: bool = True, **values: Any) -> None:
        self.write(TrialStarted(number, 0, None, values))
        for evaluation in range(1, 5):
            score = 20 + 3 * evaluation + number - abs(values["tau"] - 2)
            self.write(TrialEvaluated(number, evaluation, {"rouge_l": score}))
        if ends:
            self.write(TrialEnded(number, TrialState.COMPLETED, 32 + number - values["tau"]))


@pytest.fixture
def driver(site: Site) -> Iterator[Driver]:
    from service.accounts.ownership import Claim

    folder = sweeps_folder(site.service.hosted.workspace.home) / LIVE.sweep_id
    # Before its driver's first line a page would show the trials of another test's driver.
    site.browser.get("about:blank")  # where a page would ask for what is gone
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    plan_file(folder).write_text(LIVE.model_dump_json())
    accounts = site.service.hosted.accounts
    accounts.sweeps.claim(accounts.people.one("anna"), Claim(LIVE.sweep_id, "toy"))
    with sweep_lock(folder), driver_log(folder) as write:
        yield Driver(write)


def is_whole(site: Site, shown: Shown, width: int) -> None:
    assert shown.complaints() == []
    assert {one.split("/")[2] for one in shown.requests() if one.startswith("http")} <= {
        site.address.split("/")[2]
    }
    assert shown.ask("document.documentElement.scrollWidth") <= width
    assert shown.ask(UNNAMED) == 0


@pytest.mark.parametrize("view", SIZES, ids=str)
def test_pages_are_whole(site: Site, view: tuple[int, str], driver: Driver) -> None:
    width, scheme = view
    site.size(width, scheme)
    site.browser.get_log("browser")
    site.browser.get_log("performance")
    site.browser.delete_all_cookies()
    is_whole(site, site.open("/login"), width)
    keep(site.browser, f"login-{width}-{scheme}")
    site.log_in()
    site.wait(lambda: site.browser.find_elements(By.CSS_SELECTOR, "#sweeps tbody tr"), "sweeps")
    is_whole(site, Shown(site.browser), width)
    keep(site.browser, f"sweeps-{width}-{scheme}")
    for number, tau in enumerate((0.5, 1.0, 2.0, 3.5, 6.0)):
        name = ("forward_kl", "reverse_kl")[number % 2]
        driver.trial(number, divergence=name, tau=tau, ends=number < 4)
    shown = site.open(f"/sweeps/{LIVE.sweep_id}")
    site.wait(lambda: len(site.browser.find_elements(By.CSS_SELECTOR, ".point")) >= 4, "points")
    site.wait(lambda: site.browser.find_elements(By.CSS_SELECTOR, ".js-line"), "curves")
    is_whole(site, shown, width)
    keep(site.browser, f"sweep-{width}-{scheme}")


@pytest.mark.parametrize("width", [1400, 400])
def test_a_sweep_is_planned_and_submitted(site: Site, width: int) -> None:
    site.size(width, "light")
    site.log_in()
    site.open("/new")
    find = site.browser.find_element
    text = find(By.ID, "document")
    site.browser.execute_script("arguments[0].value = 'name: [1'", text)
    find(By.ID, "plan").click()
    site.wait(lambda: "Not yet" in site.text("#planned"), "what is wrong")
    assert not find(By.ID, "submit").is_displayed()
    keep(site.browser, f"wrong-{width}")
    find(By.CSS_SELECTOR, "#preset option[value=demo]").click()
    find(By.ID, "overrides").send_keys(f"trials={width // 200}")
    find(By.ID, "plan").click()
    site.wait(lambda: find(By.ID, "submit").is_displayed(), "the plan")
    keep(site.browser, f"planned-{width}")
    find(By.ID, "submit").click()
    site.wait(lambda: "/sweeps/demo-" in site.browser.current_url, "the sweep's page")
    site.wait(lambda: site.text("#state") == "pending", "its state")
    keep(site.browser, f"waiting-{width}")
    find(By.ID, "stop").click()
    site.wait(lambda: site.text("#state") == "cancelled", "its end")


def test_a_trial_is_shown_as_it_comes(site: Site, driver: Driver) -> None:
    site.size(1400, "light")
    site.log_in()
    site.open(f"/sweeps/{LIVE.sweep_id}")
    site.wait(lambda: site.text("#state") == "running", "its state")
    began = time.monotonic()
    driver.trial(0, divergence="forward_kl", tau=1.0)
    site.wait(lambda: "0" in site.text("#trials tbody tr"), "the trial")
    seen = time.monotonic() - began
    driver.trial(1, divergence="forward_kl", tau=2.0)
    site.wait(
        lambda: len(site.browser.find_elements(By.CSS_SELECTOR, "#trials tbody tr")) == 2, "2"
    )
    assert "best so far" in site.text("#best")
    assert seen < 20


def test_html_in_what_others_wrote_is_text(site: Site, driver: Driver) -> None:
    site.size(1400, "light")
    site.log_in()
    site.browser.get_log("browser")
    driver.write(TrialStarted(0, 0, TRICK, {"divergence": TRICK, "tau": 1.0}))
    driver.write(TrialEnded(0, TrialState.FAILED, None, TRICK))
    driver.trial(1, divergence=TRICK, tau=2.0)
    driver.write(Notice(TRICK))
    shown = site.open(f"/sweeps/{LIVE.sweep_id}")
    site.wait(lambda: TRICK in site.text("#trials"), "the name as text")
    site.browser.find_element(By.CSS_SELECTOR, "#log summary").click()
    site.wait(lambda: TRICK in site.text("#log"), "the log")
    assert shown.ask("document.querySelectorAll('main img').length") == 0
    assert "owned" not in site.browser.title
    assert shown.complaints() == []


@pytest.mark.parametrize("view", [(1400, "light"), (400, "dark")], ids=str)
def test_sweeps_are_ticked_and_compared(site: Site, view: tuple[int, str]) -> None:
    site.size(*view)
    site.log_in("root")
    site.browser.get_log("browser")
    find = site.browser.find_element
    boxes = site.wait(
        lambda: site.browser.find_elements(By.CSS_SELECTOR, ".pick:enabled"), "what to tick"
    )
    button = find(By.CSS_SELECTOR, "#compare button")
    for count, box in enumerate(boxes[:2]):
        assert button.is_enabled() is (count > 1)
        box.click()
    button.click()
    site.wait(lambda: "/compare?sweep=" in site.browser.current_url, "the comparison")
    site.wait(lambda: "to maximize" in site.text("#head"), "what seeds say")
    assert site.text("#bests tbody").count("rouge_l") == 2
    is_whole(site, Shown(site.browser), view[0])
    keep(site.browser, f"compare-{view[0]}-{view[1]}")


def test_a_search_is_confirmed_and_its_best_promoted(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosted = site.service.hosted
    registered: list[str] = []
    facts = InputFacts(fingerprints={"data": "d" * 64})
    monkeypatch.setattr(confirm, "input_facts", lambda spec, home: facts)
    monkeypatch.setattr(hosted_changes, "sweeps_registered", lambda model, workspace: set())

    def register(run: str, workspace: Any, *, name: str) -> Promoted:
        registered.append(run)
        record = promote.open_record(workspace).get(run)
        return Promoted(record, Version(name, "4", (), record.run_id), f"models:/{name}/4")

    monkeypatch.setattr(hosted_changes, "promote_trial", register)
    site.size(400, "light")
    site.log_in()
    site.open(f"/sweeps/{PLAN.sweep_id}")
    find = site.browser.find_element
    site.wait(lambda: find(By.ID, "promote").is_displayed(), "the best")
    find(By.ID, "as").send_keys("dolly")
    find(By.CSS_SELECTOR, "#promote button").click()
    site.wait(lambda: "trial 1 is dolly version 4: models:/dolly/4" in site.text("#promoted"), "it")
    assert registered == [f"{PLAN.sweep_id}/1"]
    keep(site.browser, "promoted-400")
    site.size(1400, "light")
    find(By.CSS_SELECTOR, "#confirm button").click()
    site.wait(lambda: "--top must be at most" in site.text("#trouble"), "why not three")
    top = find(By.ID, "top")
    top.clear()
    top.send_keys("2")
    keep(site.browser, "confirm-1400")
    find(By.CSS_SELECTOR, "#confirm button").click()
    site.wait(lambda: "-confirm-" in site.browser.current_url, "the study's page")
    site.wait(lambda: site.text("#state") == "pending", "its state")
    newest = hosted.launches.all()[-1]
    assert newest.order().plan.confirms == PLAN.sweep_id


def test_the_report_is_drawn_under_its_own_policy(site: Site) -> None:
    site.size(1400, "light")
    site.log_in()
    site.browser.get_log("browser")
    shown = site.open(f"/sweeps/{PLAN.sweep_id}/report")
    count = shown.ask("document.querySelectorAll('.chart').length")
    site.wait(lambda: shown.ask("document.documentElement.dataset.drawn") == str(count), "charts")
    assert shown.complaints() == []
