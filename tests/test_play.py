"""The page to play on: what it paints, what it refuses, and a browser that uses it."""

import base64
import contextlib
import http.client
import io
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from dag import REPO
from PIL import Image

PRETRAINED = REPO / "pretrained" / "fashion_mnist"
HOW = {"seed": 3, "guidance": 2.0, "steps": 3}
PAINT = HOW | {"prompt": "a red circle", "num": 2}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture(scope="module")
def unclip():
    """A system of tiny random networks, for 8 × 8 pictures in colour."""
    from systems import random_unclip

    return random_unclip()


@contextlib.contextmanager
def serving(unclip, host):
    """Gives the port of a server that is told to listen on a host."""
    import uvicorn

    from unclip.serving.app import make_app
    from unclip.serving.page_requests import PageRequests

    app = make_app(PageRequests(unclip), "A notice.", host)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.02)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(30)


@pytest.fixture(scope="module")
def port(unclip):
    """Of a server with that system."""
    with serving(unclip, "127.0.0.1") as port:
        yield port


def request(port, method, path, body=None, **headers):
    """Returns status, headers and body; a body that is no bytes is sent as JSON."""
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"} | headers)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


def ask(port, verb, asked):
    """Returns the pictures that are answered, or the error."""
    status, _, body = request(port, "POST", f"/ask/{verb}", asked)
    answer = json.loads(body)
    assert status == (200 if "pictures" in answer else 400)
    return answer.get("pictures", answer.get("error"))


def pixels(shown):
    with Image.open(io.BytesIO(base64.b64decode(shown["png"]))) as image:
        return np.atleast_3d(np.asarray(image).copy()).transpose(2, 0, 1)


def note(shown, tmp_path):
    from unclip.pictures.png import read_png_text

    path = tmp_path / "shown.png"
    path.write_bytes(base64.b64decode(shown["png"]))
    return read_png_text(path)


def a_picture(value=200, size=(20, 10)):
    stream = io.BytesIO()
    Image.new("RGB", size, (value, 30, 90)).save(stream, "JPEG")
    return base64.b64encode(stream.getvalue()).decode()


VARY = HOW | {"picture": a_picture(), "num": 2, "own_noise": False}
WAY = HOW | {"start": {"prompt": "a red circle"}, "end": {"picture": a_picture()}}
WAY |= {"frames": 4, "own_noise": False}
LAST = HOW | {"prompt": "a red circle"}


# Pictures


def test_the_page_is_told_prompts_bounds_and_the_recipes_values(port, unclip):
    status, _, body = request(port, "GET", "/facts")
    facts = json.loads(body)
    assert status == 200
    assert facts["notice"] == "A notice."
    assert facts["prompts"] == ["a red circle", "a blue star"]
    assert facts["most_steps"] == 20, "as many timesteps as the decoder has"
    assert facts["seed"] == str(unclip.defaults.sample.seed), "as text, which no browser rounds"
    assert facts["most_guidance"] == 100
    assert facts["most_seed"] == 2**53 - 1, "as JavaScript's Number.MAX_SAFE_INTEGER"
    assert facts["guidance"] == unclip.defaults.sample.guidance


def test_the_same_seed_paints_the_same_picture_and_another_paints_another(port):
    first, again, other = (ask(port, "paint", PAINT | {"seed": seed}) for seed in (3, 3, 4))
    assert [each["caption"] for each in first] == ["seed 3", "seed 4"]
    assert first == again
    assert np.array_equal(pixels(first[1]), pixels(other[0]))
    assert not np.array_equal(pixels(first[0]), pixels(first[1]))


@pytest.mark.parametrize(
    "change", [{"guidance": 6.0}, {"steps": 8}, {"prompt": "a blue star"}], ids=str
)
def test_each_setting_has_a_say(port, change):
    usual, changed = (ask(port, "paint", asked)[0] for asked in (PAINT, PAINT | change))
    assert not np.array_equal(pixels(usual), pixels(changed))


@pytest.mark.parametrize("own_noise", [False, True])
def test_variations_differ_from_each_other(port, own_noise):
    one, other = ask(port, "vary", VARY | {"own_noise": own_noise})
    assert pixels(one).shape == (3, 8, 8)
    assert not np.array_equal(pixels(one), pixels(other))


def test_a_picture_is_led_from_its_own_noise_as_far_as_on_the_command_line(port, tmp_path):
    from unclip.painting.options import VARY_ETA

    for shown in ask(port, "vary", VARY | {"own_noise": True}):
        found = note(shown, tmp_path)
        assert (found["decoder.sampler"], found["decoder.eta"]) == ("ddim", str(VARY_ETA))


def test_a_way_from_a_prompt_ends_in_the_variation_of_a_picture(port):
    way = ask(port, "interpolate", WAY)
    assert [each["caption"] for each in way] == ["0%", "33%", "67%", "100%"]
    assert np.array_equal(pixels(way[-1]), pixels(ask(port, "vary", VARY)[0]))


def test_noise_of_their_own_goes_from_picture_to_picture_and_else_stays(port, tmp_path):
    ends = {"start": {"picture": a_picture(30)}, "end": {"picture": a_picture(250, (9, 30))}}
    own, fixed = (
        [note(shown, tmp_path).get("x_T") for shown in ask(port, "interpolate", asked)]
        for asked in (WAY | ends | {"own_noise": True}, WAY | ends)
    )
    assert len(set(own)) == len(own) == 4
    assert set(fixed) == {None}


def test_a_trajectory_goes_from_noise_to_the_picture(port, unclip):
    from unclip.painting.latents import latent_of_prompt
    from unclip.painting.settings import Settings

    moments = ask(port, "trajectory", LAST)
    assert [each["caption"] for each in moments] == ["t = 19", "t = 12", "t = 6", "t = 0"]
    system = unclip.system
    params = unclip.defaults.sample.model_copy(update={"guidance": 2.0, "steps": 3})
    settings = Settings.of(params, "cpu")
    latent = latent_of_prompt(system, "a red circle", 3, settings)
    assert np.array_equal(pixels(moments[-1]), system.paint_latent(latent, settings))
    (noise,) = system.to_uint8(system.first_noise(3)[None])
    assert np.array_equal(pixels(moments[0]), noise)


@pytest.mark.parametrize(
    ("verb", "asked"),
    [
        ("paint", PAINT),
        ("vary", VARY),
        ("vary", VARY | {"own_noise": True}),
        ("interpolate", WAY),
        ("interpolate", WAY | {"own_noise": True}),
        ("trajectory", LAST),
    ],
)
def test_every_finished_picture_carries_what_paints_it_again(port, unclip, tmp_path, verb, asked):
    from unclip.painting.notes import repaint

    for shown in ask(port, verb, asked)[-2 if verb != "trajectory" else -1 :]:
        assert np.array_equal(repaint(unclip.system, note(shown, tmp_path)), pixels(shown))


def test_requests_side_by_side_get_their_own_pictures(port):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        seeds = range(24)
        answers = list(pool.map(lambda seed: ask(port, "paint", PAINT | {"seed": seed}), seeds))
    assert [answer[0]["caption"] for answer in answers] == [f"seed {seed}" for seed in seeds]
    for answer, following in itertools.pairwise(answers):
        assert np.array_equal(pixels(answer[1]), pixels(following[0]))


# Mistakes


@pytest.mark.parametrize(
    ("verb", "asked", "line"),
    [
        ("paint", PAINT | {"prompt": " "}, "caption ' ': "),
        ("paint", PAINT | {"prompt": "words " * 40}, "239 bytes"),
        ("paint", PAINT | {"prompt": 5}, "prompt: 5 "),
        ("paint", PAINT | {"num": 0}, "num: 0 "),
        ("paint", PAINT | {"num": 17}, "num: 17 "),
        ("paint", PAINT | {"num": True}, "num: true "),
        ("paint", PAINT | {"seed": -1}, "seed: -1 "),
        ("paint", PAINT | {"seed": None}, "seed: null "),
        ("paint", PAINT | {"steps": 21}, "21 is more than the 20 timesteps"),
        ("paint", PAINT | {"steps": 251}, "steps: 251 "),
        ("paint", PAINT | {"guidance": -1}, "guidance: -1 "),
        ("paint", PAINT | {"nmu": 1}, "nmu: unknown key"),
        ("paint", {"prompt": "a red circle"}, "missing"),
        ("paint", [], "is not allowed; expected"),
        ("vary", VARY | {"picture": ""}, "the picture: "),
        ("vary", VARY | {"picture": "äö"}, "picture: is not base64"),
        ("vary", VARY | {"picture": "aGVsbG8="}, "the picture: cannot be read"),
        ("interpolate", WAY | {"start": {}}, "start: "),
        ("interpolate", WAY | {"start": {"prompt": "/a/picture.png"}}, "names a file"),
        ("interpolate", WAY | {"end": {"prompt": ""}}, "caption '': "),
        ("interpolate", WAY | {"frames": 2}, "frames: 2 "),
        ("trajectory", LAST | {"num": 2}, "num: unknown key"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_request_that_makes_no_sense_is_answered_in_one_line(port, verb, asked, line):
    error = ask(port, verb, asked)
    assert line in error
    assert "\n" not in error
    assert "/tmp" not in error


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"[" * 100_000], ids=["none", "cut", "bytes", "deep"]
)
def test_what_is_no_json_is_answered_in_one_line(port, body):
    status, _, answer = request(port, "POST", "/ask/paint", body)
    assert (status, b"is not JSON" in answer) == (400, True)


def test_what_is_too_large_is_refused(port):
    status, _, answer = request(port, "POST", "/ask/paint", b" " * 30_000_001)
    assert (status, b"larger than 30 MB" in answer) == (400, True)


# Nobody else


def test_a_page_of_somebody_else_gets_nothing(port):
    assert request(port, "GET", "/facts", Host="evil.example")[0] == 400
    plain = request(port, "POST", "/ask/paint", PAINT, Content_Type="text/plain")
    assert (plain[0], b"is not JSON" in plain[2]) == (400, True)


@pytest.mark.parametrize("name", ["127.0.0.1", "LocalHost:7860", "[::1]:7860"])
def test_the_server_of_this_machine_answers_to_its_own_names(port, name):
    assert request(port, "GET", "/facts", Host=name)[0] == 200


@pytest.mark.parametrize("name", ["192.168.0.7", "evil.example", "127.0.0.1.evil.example", ""])
def test_the_server_of_this_machine_answers_to_no_other_name(port, name):
    assert request(port, "GET", "/facts", Host=name)[0] == 400


def test_a_server_for_other_machines_answers_to_every_name(unclip):
    with serving(unclip, "0.0.0.0") as port:
        assert request(port, "GET", "/facts", Host=f"192.168.0.7:{port}")[0] == 200
        assert request(port, "GET", "/facts", Host="my-pc")[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/.",
        "/../app.py",
        "/..%2fapp.py",
        "/%2e%2e/app.py",
        "/__init__.py",
        "/ask/paint",
    ],
)
def test_nothing_but_the_page_is_handed_out(port, path):
    assert request(port, "GET", path)[0] in (404, 405)


def test_the_page_is_told_of_prompts_that_training_never_showed(port):
    status, _, body = request(port, "GET", "/warning?prompt=a+red+hat")
    assert status == 200
    assert "'a red circle'" in json.loads(body)["warning"]
    for prompt in ("a+red+circle", "%20", ""):
        body = request(port, "GET", f"/warning?prompt={prompt}")[2]
        assert json.loads(body) == {"warning": ""}


def test_an_unknown_verb_is_no_verb(port):
    assert request(port, "POST", "/ask/facts", {})[0] == 404


def test_the_page_names_no_other_host(port):
    for path in ("/", "/page.css", "/page.js", "/icon.svg"):
        status, headers, body = request(port, "GET", path)
        assert status == 200
        assert "default-src 'none'" in headers["content-security-policy"]
        text = body.decode().replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"(https?:)?//[\w-]+\.\w", text)


# In a browser


needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="no chromium here; `apt install chromium` brings one"
)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with (
        playwright.sync_playwright() as driver,
        # In a container chromium has no rights to build its sandbox.
        driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"]) as browser,
    ):
        yield browser


@contextlib.contextmanager
def opened(browser, port, **facts):
    """Gives a server's page that is told other facts, and what it asks, held until continued."""
    with browser.new_page() as page:
        page.set_default_timeout(60_000)
        held = []
        page.route("**/facts", lambda route: route.fulfill(json=route.fetch().json() | facts))
        page.route("**/ask/*", lambda route: held.append(route))
        page.goto(f"http://127.0.0.1:{port}")
        page.locator("#prompts button").first.wait_for()
        yield page, held


def sent(page, held):
    """Returns what the page asks for, once it does."""
    until = time.monotonic() + 10
    while not held and time.monotonic() < until:
        page.wait_for_timeout(20)
    return held[0].request.post_data_json


@needs_browser
def test_enter_paints_once_however_often_it_is_pressed(browser, port):
    with opened(browser, port) as (page, held):
        for _ in range(4):
            page.press("#prompt", "Enter")
        sent(page, held)
        assert page.locator(".sheet").count() == 1
        assert page.is_disabled("#go")
        held[0].continue_()
        page.locator(".sheet:not(.waiting)").wait_for()
        assert len(held) == 1
        assert page.is_enabled("#go")


@needs_browser
def test_enter_that_ends_a_word_of_an_input_method_paints_nothing(browser, port):
    with opened(browser, port) as (page, _):
        enter = {"key": "Enter", "bubbles": True, "cancelable": True}
        page.dispatch_event("#prompt", "keydown", enter | {"isComposing": True})
        assert page.locator(".sheet").count() == 0
        page.dispatch_event("#prompt", "keydown", enter)
        assert page.locator(".sheet").count() == 1


@needs_browser
def test_the_page_paints_by_the_recipe_as_it_stands(browser, port):
    recipe = {"guidance": 2.1, "steps": 200, "seed": str(2**53 - 1)}
    with opened(browser, port, most_steps=250, **recipe) as (page, held):
        page.click("#go")
        asked = sent(page, held)
        assert {key: asked[key] for key in recipe} == recipe | {"seed": 2**53 - 1}


@needs_browser
@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("seed", str(2**53), f"a whole number from 0 to {2**53 - 1}"),
        ("seed", "1.5", f"a whole number from 0 to {2**53 - 1}"),
        ("steps", "21", "a whole number from 1 to 20"),
        ("steps", "", "a whole number from 1 to 20"),
        ("guidance", "-0.1", "a number from 0 to 100"),
    ],
)
def test_a_number_that_can_not_be_sent_is_explained(browser, port, field, value, expected):
    with opened(browser, port) as (page, held):
        page.fill(f"#{field}", value)
        page.press("#prompt", "Enter")
        said = f"{field}: {value or 'what is there'} is not allowed; expected {expected}"
        assert page.inner_text("#error") == said
        assert page.evaluate("document.activeElement.id") == field
        assert (page.locator(".sheet").count(), held) == (0, [])
        page.fill(f"#{field}", "7")
        page.click("#go")
        sent(page, held)
        assert page.is_hidden("#error")


@needs_browser
def test_a_seed_of_the_recipe_that_is_too_large_for_a_browser_is_shown_and_refused(browser, port):
    with opened(browser, port, seed=str(2**63 - 1)) as (page, held):
        assert page.input_value("#seed") == str(2**63 - 1)
        page.click("#go")
        assert page.inner_text("#error").startswith(f"seed: {2**63 - 1} is not allowed")
        assert held == []


@needs_browser
def test_every_picture_and_field_says_which_it_is_to_those_who_do_not_see_it(browser, port):
    with opened(browser, port) as (page, held):
        page.fill("#num", "2")
        page.click("#go")
        sent(page, held)
        assert page.inner_text("[role=status]") == "Painting a red circle"
        held.pop().continue_()
        page.get_by_alt_text("a red circle, seed 1", exact=True).wait_for()
        assert page.inner_text("[role=status]") == "Painted a red circle: 2 pictures"
        assert page.locator("[aria-live]").count() == 0
        assert page.locator("[role=status] img").count() == 0
        for act in ("vary", "from", "to"):
            name = f"{act} a red circle, seed 1"
            assert page.get_by_role("button", name=name, exact=True).count() == 1
        page.get_by_role("link", name="save a red circle, seed 1", exact=True).wait_for()

        page.get_by_role("button", name="Between", exact=True, pressed=False).click()
        page.get_by_role("button", name="Between", exact=True, pressed=True).wait_for()
        assert page.get_by_role("button", pressed=True).count() == 1
        assert page.get_by_label("From: a prompt").input_value() == "a red circle"
        assert page.get_by_label("To: a prompt").input_value() == "a blue star"
        page.click("#go")
        sent(page, held)
        held.pop().continue_()
        page.get_by_alt_text("a red circle → a blue star, seed 0, 100%", exact=True).wait_for()


@needs_browser
def test_a_file_that_has_the_focus_shows_it(browser, port):
    with opened(browser, port) as (page, _):
        page.get_by_role("button", name="Vary", exact=True).click()
        outline = "getComputedStyle(document.querySelector('#source .file')).outlineStyle"
        assert page.evaluate(outline) == "none"
        page.get_by_label("Picture: choose a file").focus()
        assert page.evaluate(outline) == "solid"


@needs_browser
def test_what_noise_of_its_own_does_not_heed_can_not_be_changed(browser, port):
    with opened(browser, port) as (page, _):
        page.get_by_role("button", name="Vary", exact=True).click()
        assert page.is_enabled("#guidance")
        page.check("#own_noise")
        assert page.is_disabled("#guidance")
        assert page.is_disabled("#steps")
        page.get_by_role("button", name="Paint", exact=True, pressed=False).click()
        assert page.is_enabled("#guidance")


# The command


def start(folder: Path, *arguments):
    """Starts `python cli.py play` in a folder."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    environment = kept | {"UNCLIP_DEVICE": "cpu", "UNCLIP_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, REPO / "cli.py", "play", *map(str, arguments)],
        cwd=folder,
        env=environment | {"DVC_ROOT": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_port_that_is_taken_is_one_line(refuse):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert refuse("play", "--port", port).startswith(f"--host 127.0.0.1 --port {port}: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--host", "no.such.host.invalid"],
        ["--from", "nowhere"],
        ["--rev", "b", "--from", "a"],
    ],
    ids=" ".join,
)
def test_a_mistake_is_one_line(refuse, arguments):
    assert refuse("play", "--port", 0, *arguments).startswith(arguments[0])


@contextlib.contextmanager
def playing(folder, *arguments):
    """Gives the lines that the command says, and the address of its page."""
    process = start(folder, "--port", 0, *arguments)
    try:
        said = [process.stdout.readline(), process.stdout.readline()]
        address = re.search(r"http://[\w.:]+", said[-1])
        assert address, (said, process.stderr.read())
        yield said, address.group()
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, process.stderr.read()


@pytest.mark.slow
def test_where_nothing_is_trained_it_paints_with_what_came_with_the_code_and_says_so(tmp_path):
    with playing(tmp_path) as (said, address):
        assert said[0].startswith("Nothing is trained here yet: painting with pretrained/fashion_")
        port = int(address.rpartition(":")[2])
        assert ask(port, "paint", PAINT | {"prompt": "An image of a bag"})


@pytest.mark.slow
@needs_browser
def test_in_a_browser_a_prompt_gives_a_picture_and_another_seed_another(browser, tmp_path):
    with (
        playing(tmp_path, "--from", PRETRAINED) as (_, address),
        browser.new_page() as page,
    ):
        asked, troubles = [], []
        page.set_default_timeout(120_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))

        def paint(verb, sheets):
            """Presses the button, and returns the pictures of the newest of so many sheets."""
            page.click(f".tabs [data-verb={verb}]")
            page.click("#go")
            page.locator(".sheet:not(.waiting)").nth(sheets - 1).wait_for()
            shown = page.locator(".sheet >> nth=0 >> figure img")
            return [image.get_attribute("src") for image in shown.all()]

        page.goto(address)
        page.locator("#prompts button").first.wait_for()
        page.fill("#prompt", "An image of a sneaker")
        assert page.locator("#warning").is_hidden()
        first = paint("paint", 1)
        assert (len(first), len(set(first))) == (8, 8)
        page.fill("#seed", "77")
        other = paint("paint", 2)
        assert not set(first) & set(other)
        page.fill("#seed", "0")
        assert paint("paint", 3) == first

        picture = page.locator(".sheet >> nth=0 >> figure >> nth=2")
        picture.hover()
        picture.locator("[data-act=vary]").click()
        assert page.locator("#source img").get_attribute("src") == first[2]
        assert not set(paint("vary", 4)) & set(first)
        assert len(paint("interpolate", 5)) == 9
        moments = paint("trajectory", 6)
        assert moments[-1] != moments[0]

        page.fill("#prompt", "An image of a hat")
        page.locator("#warning:not([hidden])").wait_for()
        assert "An image of a bag" in page.locator("#warning").inner_text()
        page.fill("#prompt", " ")
        page.click("#go")
        page.locator("#error:not([hidden])").wait_for()
        assert "is empty; expected at least one word" in page.locator("#error").inner_text()
        # A refused request is noted in the console by the browser itself.
        assert [text for text in troubles if "400" not in text] == []
        assert {url.rpartition("/")[0] for url in asked if not url.startswith("data:")} == {
            address,
            f"{address}/ask",
        }
