"""/openapi.json, /docs, /: what the service tells about itself."""

from __future__ import annotations

import re
from typing import Any

import pytest
import schemathesis

from service import __version__
from tests.api.support import BATCH, BODIES, PASSWORD, PROTECTED, Front

METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture(scope="module")
def spec(table: Front) -> dict[str, Any]:
    response = table.client.get("/openapi.json")
    assert response.status_code == 200
    assert response.content_type == "application/json"
    return response.json


def operations(spec: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): operation
        for path, item in spec["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    }


def resolve(spec: dict[str, Any], node: Any) -> Any:
    while "$ref" in node:
        path, node = node["$ref"].removeprefix("#/").split("/"), spec
        for part in path:
            node = node[part]
    return node


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(references(inner) for inner in node.values()))
    if isinstance(node, list):
        return set().union(*(references(inner) for inner in node))
    return set()


def reachable(spec: dict[str, Any]) -> set[str]:
    """Return what the operations refer to, directly or by way of something else."""
    found: set[str] = set()
    fresh = references(spec["paths"])
    while fresh:
        found |= fresh
        fresh = set().union(*(references(resolve(spec, {"$ref": name})) for name in fresh)) - found
    return found


def test_the_specification_is_openapi_3_of_this_version(table: Front, spec: dict[str, Any]) -> None:
    assert re.fullmatch(r"3\.\d+\.\d+", spec["openapi"])
    assert spec["info"]["title"] == "Storyhook"
    assert spec["info"]["version"] == __version__
    schemathesis.openapi.from_wsgi("/openapi.json", table.app).validate()


def test_every_reference_of_the_specification_leads_somewhere(spec: dict[str, Any]) -> None:
    found = references(spec)

    assert found
    for reference in found:
        assert resolve(spec, {"$ref": reference})


def test_every_route_of_the_api_is_in_the_specification(table: Front, spec: dict[str, Any]) -> None:
    routes = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in table.app.url_map.iter_rules()
        for method in rule.methods & {word.upper() for word in METHODS}
        if rule.rule.startswith(("/api", "/auth", "/keys"))
    }

    assert routes == set(operations(spec))


def test_every_operation_says_what_it_does_and_what_success_is(spec: dict[str, Any]) -> None:
    for name, operation in operations(spec).items():
        assert operation["summary"], name
        assert operation["tags"], name
        assert any(status.startswith("2") for status in operation["responses"]), name


def test_every_error_that_is_documented_has_the_shape_of_the_envelope(spec: dict[str, Any]) -> None:
    for name, operation in operations(spec).items():
        for status, response in operation["responses"].items():
            if status[0] in "45d":
                content = resolve(spec, response)["content"]
                schema = resolve(spec, content["application/json"]["schema"])
                fields = schema["properties"]
                assert {"success", "requestId", "status", "error", "code"} <= set(fields), (name, status)
                assert fields["code"]["type"] == "string", (name, status)


def test_only_what_needs_no_credential_is_documented_without_one(spec: dict[str, Any]) -> None:
    open_to_all = {
        name
        for name, operation in operations(spec).items()
        if operation.get("security", spec["security"]) == []
    }

    assert open_to_all == {("POST", "/auth/login"), ("POST", "/auth/register"), ("GET", "/archive/{name}")}


def test_both_ways_to_present_a_key_are_documented(spec: dict[str, Any]) -> None:
    schemes = spec["components"]["securitySchemes"].values()

    assert {"bearer", "x-access-key"} == {scheme.get("scheme") or scheme["name"] for scheme in schemes}
    used = {name for requirement in spec["security"] for name in requirement}
    assert used == set(spec["components"]["securitySchemes"])


def test_the_stories_operation_documents_its_fields_and_202(spec: dict[str, Any]) -> None:
    operation = operations(spec)["POST", "/api/instagram/stories"]
    schema = resolve(spec, operation["requestBody"]["content"]["application/json"]["schema"])

    assert {"username", "webhookUrl"} <= set(schema["properties"])
    assert schema["required"] == ["username"]
    assert {"200", "202"} <= set(operation["responses"])


def test_the_batch_operation_documents_every_form_of_its_body_and_its_options(spec: dict[str, Any]) -> None:
    operation = operations(spec)["POST", BATCH]
    content = operation["requestBody"]["content"]
    assert set(content) == {"application/json", "text/plain", "text/csv", "application/x-ndjson"}
    schema = resolve(spec, content["application/json"]["schema"])
    assert content["application/json"]["schema"]["$ref"].startswith("#/components/schemas/")
    assert schema["required"] == ["usernames"]
    assert schema["properties"]["usernames"]["items"] == {"type": "string"}
    assert set(operation["responses"]) == {"202", "default"}
    in_query = {each["name"] for each in operation["parameters"] if each["in"] == "query"}
    assert in_query == set(schema["properties"]) - {"usernames"}


def test_every_name_on_the_wire_is_in_camel_case(spec: dict[str, Any]) -> None:
    schemas = [resolve(spec, {"$ref": name}) for name in reachable(spec)]
    names = {name for schema in schemas for name in schema.get("properties", {})}
    names |= {
        parameter["name"]
        for operation in operations(spec).values()
        for parameter in operation.get("parameters", [])
        if parameter["in"] == "query"
    }

    assert "requestId" in names
    assert [name for name in names if not re.fullmatch(r"[a-z][a-zA-Z0-9]*", name)] == []


def test_what_is_documented_is_protected_as_documented(table: Front, spec: dict[str, Any]) -> None:
    tried = {
        (method, re.sub(r"/(?:req|msg|bat|wat)_\w+|(?<=/keys)/\w+", "/{}", path))
        for method, path in PROTECTED
    }
    told = {(method, re.sub(r"\{\w+\}", "{}", path)) for method, path in operations(spec)}

    assert tried | set(BODIES) - {("POST", "/auth/register")} >= told - {("POST", "/auth/register")}
    assert PASSWORD not in table.client.get("/openapi.json").text


# --- /docs -----------------------------------------------------------------------------------------


def test_docs_is_a_page_whose_assets_all_come_from_here(table: Front) -> None:
    response = table.client.get("/docs")
    assert response.status_code == 200
    assert response.content_type.startswith("text/html")

    assets = re.findall(r"""(?:src|href)=["']([^"']+)["']""", response.text)
    assert any(asset.endswith(".js") for asset in assets)
    assert any(asset.endswith(".css") for asset in assets)
    for asset in assets:
        assert re.match(r"/[^/]", asset), asset
        answer = table.client.get(asset)
        assert answer.status_code == 200, asset
        assert len(answer.data) > 100, asset
        assert "html" not in answer.content_type, asset
        answer.close()


def test_docs_names_no_other_host_and_loads_our_specification(table: Front) -> None:
    text = table.client.get("/docs").text

    assert re.findall(r"""["'(]\s*(?:https?:)?//[^"')]+""", text) == []
    [url] = re.findall(r"""url:\s*["']([^"']+)["']""", text)
    assert table.client.get(url).json["openapi"]


def test_the_style_sheet_of_docs_loads_nothing_from_elsewhere(table: Front) -> None:
    [sheet] = re.findall(r'href="([^"]+\.css)"', table.client.get("/docs").text)
    with table.client.get(sheet) as response:
        text = response.text

    assert re.findall(r"@import|url\(\s*[\"']?(?:https?:)?//", text) == []


@pytest.mark.parametrize("name", ["../__init__.py", "..%2f__init__.py", "/etc/passwd", "nothing.js", "%00"])
def test_only_assets_are_served_as_assets(table: Front, name: str) -> None:
    response = table.client.get(f"/docs/assets/{name}")

    assert response.status_code in (404, 308)
    assert "import" not in response.text


def test_the_front_door_leads_to_docs(table: Front) -> None:
    response = table.client.get("/", follow_redirects=True)

    assert response.status_code == 200
    assert response.request.path == "/docs"
