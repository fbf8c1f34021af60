"""The page in Chromium."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, Page, expect

from tests.end_to_end.browser import chromium
from tests.end_to_end.conftest import Service

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def visit(service: Service, browser: Browser) -> Iterator[Open]:
    """Open pages of the service; fail if one contacts another origin, violates its policy or throws."""
    wrong: list[str] = []
    contexts = []

    def open_page(path: str = "/", script: str = "", **options: Any) -> Page:
        contexts.append(browser.new_context(base_url=service.url, **options))
        page = contexts[-1].new_page()
        page.add_init_script(script)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text) if message.type != "log" else None)
        page.on("request", lambda sent: None if sent.url.startswith(service.url + "/") else wrong.append(sent.url))
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    # The browser itself logs each response with an error status.
    assert [line for line in wrong if not line.startswith("Failed to load resource: the server responded with")] == []


def ask(page: Page, query: str) -> None:
    """Type a query and press Enter."""
    page.get_by_role("textbox").fill(query)
    page.get_by_role("textbox").press("Enter")
    expect(page.locator("#heat-map tbody tr").first).to_be_visible()


def shown_answer(page: Page) -> str:
    tiles = page.locator(".characters .tile").all_text_contents()
    return "".join(tile for tile in tiles if tile != "end")


def run(command: str) -> Any:
    """Run a shell command and return the JSON that it prints."""
    return json.loads(subprocess.run(["sh", "-c", command], capture_output=True, check=True).stdout)


def as_percent(probability: float) -> str:
    if probability > 0.9999:
        return ">99.99%"
    return "<0.01%" if probability < 0.0001 else f"{100 * probability:.2f}%"


@pytest.mark.usefixtures("curl")
def test_a_query_shows_the_whole_response(service: Service, visit: Open) -> None:
    page = visit(permissions=["clipboard-read", "clipboard-write"])
    ask(page, "417+ 586")
    response = service.post("/predict", {"query": "417+586", "characters": True}).json()
    for item, character in zip(page.locator(".character").all(), response["characters"], strict=True):
        spelled = character["character"] or "end"
        others = [each["character"] or "end" for each in character["runners_up"]]
        probabilities = [as_percent(each["probability"]) for each in [character, *character["runners_up"]]]
        assert item.locator(".tile").text_content() == spelled
        assert item.locator(".runners-up b").all_text_contents() == others
        assert item.locator(".probability").all_text_contents() == probabilities
    by = f"by adder, version {response['model']['version']}"
    expect(page.locator(".summary")).to_contain_text(f"Confidence {as_percent(response['confidence'])}, {by}")
    expect(page.locator(".verdict")).to_have_text("Right: the true answer is 1003.")
    expect(page.get_by_role("status").first).to_contain_text(f"The model answers 417+586 with {response['answer']}")
    assert page.locator(".query .tile").all_text_contents() == list("417+586")

    page.get_by_role("button", name="Copy").click()
    expect(page.locator("#copied")).to_have_text("Copied.")
    assert run(page.evaluate("navigator.clipboard.readText()"))["answer"] == shown_answer(page) == response["answer"]


def test_the_heat_map_is_a_table_of_the_explanation(service: Service, visit: Open) -> None:
    page = visit("/?query=3%2B99&model=adder/1")
    table = page.locator("#heat-map")
    expect(table.get_by_role("columnheader").first).to_be_visible()
    response = service.post("/explain", {"query": "3+99", "model": "adder", "version": 1}).json()
    assert table.get_by_role("columnheader").all_text_contents() == response["hidden"]
    heads = [character or "end" for character in response["characters"]]
    assert table.get_by_role("rowheader").all_text_contents() == heads
    figures = [float(text.replace("−", "-")) for text in table.locator("tbody td").all_text_contents()]
    assert figures == pytest.approx(
        [fall for falls in zip(*response["matrix"], strict=True) for fall in falls], abs=0.0051
    )
    colours = table.locator("tbody td").evaluate_all(
        "cells => cells.map(cell => getComputedStyle(cell).backgroundColor)"
    )
    assert len(set(colours)) > 1


def test_the_layers_are_explained_with_the_numbers_of_the_model(service: Service, visit: Open) -> None:
    page = visit("/?query=3%2B99")
    layers = service.post("/explain", {"query": "3+99", "layers": True}).json()["layers"]
    rows = {"#repeated": [layers["repeated"]] * 4, "#states": layers["states"]}
    for part, numbers in rows.items():
        shown = page.locator(part)
        expect(shown.locator(".size")).to_have_text(str(len(numbers[0])))
        beginnings = [" ".join(f"{number:.2f}".replace("-", "−") for number in row[:3]) + " …" for row in numbers]
        expect(shown.locator("td:last-child")).to_have_text(beginnings)
    expect(page.locator("#repeated .size")).to_have_text("512")
    expect(page.locator("#probabilities th")).to_have_text(["1", "0", "2", "end"])
    for row, probabilities in zip(page.locator("#probabilities canvas").all(), layers["probabilities"], strict=True):
        drawn = row.evaluate(
            "at => [...at.getContext('2d').getImageData(0, 0, at.width, 1).data].filter((_, byte) => byte % 4 == 3)"
        )
        assert drawn == pytest.approx([255 * probability for probability in probabilities], abs=2)
    page.get_by_label("Model").select_option("sutskever2014, version 1")
    expect(page.locator("#states")).to_be_visible()
    expect(page.locator("#repeated")).to_be_hidden()


def test_a_wrong_answer_is_shown_unchanged(service: Service, visit: Open) -> None:
    page = visit()
    page.get_by_label("Model").select_option("adder, version 1")
    ask(page, "0+0")
    expect(page.locator(".verdict")).to_have_text("Wrong: the true answer is 0.")
    answer = service.post("/predict", {"query": "0+0", "model": "adder", "version": 1}).json()["answer"]
    assert shown_answer(page) == answer == "8"
    assert page.url.endswith("/?query=0%2B0&model=adder%2F1")
    expect(page.get_by_role("status").first).to_contain_text("Wrong: the true answer is 0.")
    share = page.locator(".character").first.evaluate(
        "item => item.querySelector('.likely').style.getPropertyValue('--share')"
    )
    assert 0.5 < float(share) < 1


@pytest.mark.usefixtures("curl")
def test_a_bad_query_is_reported_beside_the_field(service: Service, visit: Open) -> None:
    page = visit()
    ask(page, "1+2")
    query = page.get_by_role("textbox")
    query.fill("1-2 'quoted'")
    query.press("Enter")
    refused = service.post("/predict", {"query": "1-2 'quoted'"}).json()
    expect(page.locator("#problem")).to_have_text(refused["errors"][0]["detail"])
    expect(query).to_have_accessible_description(re.compile(re.escape(refused["errors"][0]["detail"])))
    assert query.get_attribute("aria-invalid") == "true"
    expect(page.locator("#result")).to_be_hidden()
    assert run(page.locator("#curl").text_content() or "")["detail"] == refused["detail"]
    query.press("Escape")
    expect(query).to_have_value("")
    expect(page.locator("#problem")).to_be_hidden()
    ask(page, "3+4")
    assert query.get_attribute("aria-invalid") == "false"


# A stream that the test controls: `send` appends to it, `end` closes it.
BY_HAND = """
window.fetch = async () => new Response(new ReadableStream({ start(stream) {
  window.send = (text) => stream.enqueue(new TextEncoder().encode(text));
  window.end = () => stream.close();
} }));
"""
CHARACTER = 'event: character\ndata: {"character":"%s","probability":0.5,"runners_up":[]}\n\n'


def test_each_character_is_shown_when_it_arrives(visit: Open) -> None:
    page = visit("/?query=1%2B2", script=BY_HAND)
    first, second = CHARACTER % "7", CHARACTER % "9"
    tiles = page.locator(".characters .tile")
    page.evaluate("send", first + second[:30])
    expect(tiles).to_have_text(["7"])
    page.evaluate("send", second[30:])
    expect(tiles).to_have_text(["7", "9"])
    page.evaluate("end")
    expect(page.locator("#problem")).to_have_text("The stream ended before the answer was complete: try again.")


def test_the_keyboard_alone_is_enough(visit: Open) -> None:
    page = visit("/?query=12%2B34")
    expect(page.locator("#layers")).to_be_visible()
    reached = []
    for _ in range(10):
        page.keyboard.press("Tab")
        focused = page.locator(":focus")
        expect(focused).to_have_css("outline-style", "solid")
        reached.append(focused.evaluate("at => at.id || at.className || at.textContent.trim()"))
    assert reached == ["home", "API", "Models", "Metrics", "query", "model", "with", "Ask", "scroll", "copy"]
    page.locator("#query").fill("5+5")
    page.keyboard.press("Enter")
    expect(page.locator(".verdict")).to_have_text("Right: the true answer is 10.")


def test_a_phone_needs_no_horizontal_scrolling(visit: Open) -> None:
    page = visit(viewport={"width": 320, "height": 640}, has_touch=True, is_mobile=True)
    ask(page, "999+999")
    wide = page.evaluate(
        "[...document.querySelectorAll('html, .scroll')].map(each => each.scrollWidth - each.clientWidth)"
    )
    assert wide == [0, 0]
    expect(page.locator(".characters")).to_be_in_viewport()
    lines = page.locator(".runners-up li, .likely")
    assert lines.evaluate_all("lines => lines.every(line => line.scrollWidth <= line.clientWidth)")
    # Each is one line, and none is cut: a character and its probability are beside each other.
    heights = page.locator(".runners-up li").evaluate_all("lines => lines.map(line => line.clientHeight)")
    assert max(heights) < 30


def test_the_page_answers_its_first_query_when_it_opens(visit: Open) -> None:
    page = visit()
    expect(page.get_by_role("textbox")).to_have_value("123+456")
    expect(page.locator(".verdict")).to_have_text("Right: the true answer is 579.")
    assert shown_answer(page) == "579"


def test_two_versions_are_compared(service: Service, visit: Open) -> None:
    page = visit("/?query=0%2B0&model=adder%2F1")
    expect(page.locator(".verdict")).to_have_text("Wrong: the true answer is 0.")
    newest = max(model["version"] for model in service.get("/models").json()["models"] if model["name"] == "adder")
    page.get_by_label("Compare with").select_option(f"adder, version {newest}")
    expect(page.locator(".answer h2")).to_have_text(
        ["Answer of adder, version 1", f"Answer of adder, version {newest}"]
    )
    expect(page.locator(".verdict")).to_have_text(["Wrong: the true answer is 0.", "Right: the true answer is 0."])
    expect(page.locator("#comparison")).to_have_text("The answers differ, at character 1.")
    expect(page.locator(".differs")).to_have_count(2)
    ask(page, "12+30")
    assert page.url.endswith(f"/?query=12%2B30&model=adder%2F1&with=adder%2F{newest}")
    page.reload()
    expect(page.locator(".verdict")).to_have_count(2)


@pytest.mark.parametrize(("query", "model", "right"), [("17+5", "last-digit/1", "2"), ("9876+54", "adder-4/1", "9930")])
def test_the_true_answer_of_another_task_is_its_own(visit: Open, query: str, model: str, right: str) -> None:
    page = visit(f"/?{urlencode({'query': query, 'model': model})}")
    expect(page.locator(".verdict")).to_have_text(f"Right: the true answer is {right}.")


@pytest.mark.parametrize("field", ["model", "with"])
def test_a_model_that_is_not_served_is_named(visit: Open, field: str) -> None:
    page = visit(f"/?{field}=nope")
    expect(page.locator("#unknown")).to_contain_text("No model nope is served")
    expect(page.locator(".verdict")).to_have_text("Right: the true answer is 579.")


def test_each_model_has_its_figures_and_images(service: Service, visit: Open) -> None:
    page = visit()
    page.get_by_role("link", name="Models").click()
    for model in service.get("/models").json()["models"]:
        card = page.get_by_role("region", name=f"{model['name']}, version {model['version']}")
        expect(card.locator("dd").first).to_have_text(f"{model['evidence']['domain']['wrong']:,}")
        for image in card.locator("img").all():
            image.scroll_into_view_if_needed()
            expect(image).to_have_js_property("complete", True)
            assert image.evaluate("image => image.naturalWidth") > 100


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(visit: Open, scheme: str) -> None:
    page = visit(color_scheme=scheme, reduced_motion="reduce")

    def assert_accessible() -> None:
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()

    assert_accessible()
    ask(page, "3+99")
    assert_accessible()
    page.get_by_role("textbox").fill("1-2")
    page.get_by_role("textbox").press("Enter")
    expect(page.locator("#problem")).to_be_visible()
    assert_accessible()


def test_without_javascript_curl_and_figures_are_shown(service: Service, visit: Open) -> None:
    page = visit(java_script_enabled=False)
    expect(page.locator("#result")).to_be_hidden()
    expect(page.locator("#curl")).to_contain_text(f"curl -s {service.url}/predict -H 'content-type: application/json'")
    page.get_by_role("link", name="Models").click()
    expect(page.get_by_role("region")).to_have_count(len(service.get("/models").json()["models"]))
    page.get_by_role("link", name="Metrics", exact=True).click()
    expect(page.get_by_role("region", name="adder_workers", exact=True).get_by_role("cell")).to_have_text("2")


def test_swagger_lists_every_route_and_executes_one(service: Service, visit: Open) -> None:
    page = visit("/docs", viewport={"width": 1200, "height": 900})
    paths = service.get("/openapi.json").json()["paths"]
    expect(page.locator(".opblock")).to_have_count(sum(len(methods) for methods in paths.values()))
    predict = page.locator("#operations-predict-post_predict")
    expect(predict).to_be_in_viewport()  # it is open
    predict.get_by_role("button", name="Execute").click()
    answered = predict.locator(".live-responses-table .response")
    expect(answered.locator(".response-col_status")).to_contain_text("200")
    expect(answered.locator(".response-col_description")).to_contain_text('"answer": "579"')

    expect(page.get_by_text("/static/")).to_have_count(0)
    page.get_by_role("link", name="neural-adder").click()
    expect(page.get_by_role("heading", name="Ask a model")).to_be_visible()


@pytest.mark.parametrize("path", ["/problems", "/problems/invalid", "/models", "/metrics", "/predict", "/nothing"])
def test_the_other_pages_are_accessible(visit: Open, path: str) -> None:
    found = Axe().run(visit(path))
    assert found.violations_count == 0, found.generate_report()
