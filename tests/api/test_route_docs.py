"""/openapi.json, /docs, /: what the service tells about itself."""

from __future__ import annotations

import re
from typing import Any

import pytest
import schemathesis

from service import __version__
from tests.api.support import BATCH, BODIES, HIKER, PASSWORD, PROTECTED, Front

METHODS = {"get", "post", "put", "patch", "delete"}
OPEN = {("POST", "/auth/login"), ("POST", "/auth/register"), ("GET", "/archive/{name}")}
THEIRS = {("GET", path) for path in HIKER}
# Of the bodies of HikerAPI's errors: what any of them has, by status.
THEIR_ERRORS = {"402": {"state", "error", "exc_type"}, "422": {"detail"}, "default": {"detail", "exc_type"}}
TARGETS = {
    "stories": ["username", "userId"],
    "story": ["storyId", "url"],
    "highlights": ["username", "userId"],
    "highlight": ["highlightId", "url"],
    "user": ["username", "userId"],
    "download": ["storyId", "url"],
}


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
        if rule.rule.startswith(("/api", "/auth", "/keys", "/archive", "/v1", "/v2", "/gql", "/sys"))
    }

    assert routes == set(operations(spec))


def test_every_operation_says_what_it_does_and_what_success_is(spec: dict[str, Any]) -> None:
    for name, operation in operations(spec).items():
        assert operation["summary"], name
        assert operation["tags"], name
        assert any(status.startswith("2") for status in operation["responses"]), name


def test_every_error_that_is_documented_has_the_shape_of_the_envelope(spec: dict[str, Any]) -> None:
    for name, operation in operations(spec).items():
        if name in THEIRS:
            continue
        for status, response in operation["responses"].items():
            if status[0] in "45d":
                content = resolve(spec, response)["content"]
                schema = resolve(spec, content["application/json"]["schema"])
                fields = schema["properties"]
                assert {"success", "requestId", "status", "error", "code"} <= set(fields), (name, status)
                assert fields["code"]["type"] == "string", (name, status)


def test_every_error_of_hikerapis_routes_is_documented_in_their_forms(spec: dict[str, Any]) -> None:
    for name in THEIRS:
        told = {
            status: response
            for status, response in operations(spec)[name]["responses"].items()
            if not status.startswith("2")
        }
        assert set(told) == set(THEIR_ERRORS), name
        for status, response in told.items():
            schema = resolve(spec, response["content"]["application/json"]["schema"])
            assert set(schema["properties"]) == set(schema["required"]) == THEIR_ERRORS[status], (
                name,
                status,
            )
            assert "x-hiker-info" in response["headers"], (name, status)


def test_the_complaint_about_a_parameter_is_documented_in_fastapis_form(spec: dict[str, Any]) -> None:
    response = operations(spec)["GET", "/v1/user/stories"]["responses"]["422"]
    detail = resolve(spec, response["content"]["application/json"]["schema"])["properties"]["detail"]
    assert detail["type"] == "array"
    assert set(resolve(spec, detail["items"])["properties"]) == {"loc", "msg", "type"}


def test_hikerapis_routes_say_what_they_return_take_and_cost(spec: dict[str, Any]) -> None:
    for name in THEIRS:
        operation = operations(spec)[name]
        assert all("schema" in each for each in operation["responses"]["200"]["content"].values()), name
        for parameter in operation.get("parameters", []):
            assert "example" in parameter or "default" in parameter["schema"], (name, parameter)
    costs = {path: operations(spec)["GET", path].get("description", "") for path in HIKER}
    assert "3" in costs["/v1/user/stories/by/username"]
    assert "2" in costs["/v2/user/highlights"]
    assert "1" in costs["/v1/story/download"]


@pytest.mark.parametrize("path", ["/api/instagram/download", "/v1/story/download"])
def test_a_download_is_documented_as_a_file_of_which_a_part_may_be_had(
    spec: dict[str, Any], path: str
) -> None:
    operation = operations(spec)["GET", path]
    for status in ("200", "206"):
        content = operation["responses"][status]["content"]
        assert set(content) == {"image/*", "video/*"}
        assert all(each["schema"]["format"] == "binary" for each in content.values())
    assert "Content-Range" in operation["responses"]["206"]["headers"]
    assert "Range" in {each["name"] for each in operation["parameters"] if each["in"] == "header"}


def test_only_what_needs_no_credential_is_documented_without_one(spec: dict[str, Any]) -> None:
    open_to_all = {
        name
        for name, operation in operations(spec).items()
        if operation.get("security", spec["security"]) == []
    }

    assert open_to_all == OPEN


def test_every_way_to_present_a_key_is_documented(spec: dict[str, Any]) -> None:
    schemes = spec["components"]["securitySchemes"]

    assert {"bearer", "x-access-key", "access_key"} == {
        scheme.get("scheme") or scheme["name"] for scheme in schemes.values()
    }
    used = {name for requirement in spec["security"] for name in requirement}
    assert used == {name for name, scheme in schemes.items() if scheme.get("in") != "query"}
    for name, operation in operations(spec).items():
        in_query = any("accessKeyInQuery" in each for each in operation.get("security", []))
        assert in_query == (name in THEIRS), name


@pytest.mark.parametrize("operation", TARGETS)
def test_an_operation_documents_its_fields_and_202(spec: dict[str, Any], operation: str) -> None:
    found = operations(spec)["POST", f"/api/instagram/{operation}"]
    schema = resolve(spec, found["requestBody"]["content"]["application/json"]["schema"])

    assert {*TARGETS[operation], "webhookUrl", "maxAge", "idempotencyKey"} <= set(schema["properties"])
    assert schema["oneOf"] == [{"required": [name]} for name in TARGETS[operation]]
    assert "required" not in schema
    assert {"200", "202"} <= set(found["responses"])
    assert all(schema["properties"][name]["description"] for name in TARGETS[operation])


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


def names_of(spec: dict[str, Any], schemas: set[str], routes: set[tuple[str, str]]) -> set[str]:
    """Return the names of fields and of parameters in the query."""
    found = {name for each in schemas for name in resolve(spec, {"$ref": each}).get("properties", {})}
    return found | {
        parameter["name"]
        for route in routes
        for parameter in operations(spec)[route].get("parameters", [])
        if parameter["in"] == "query"
    }


def test_every_name_on_the_wire_is_in_camel_case(spec: dict[str, Any]) -> None:
    ours = {name for name in reachable(spec) if "/Hiker" not in name}
    names = names_of(spec, ours, set(operations(spec)) - THEIRS)

    assert "requestId" in names
    assert [name for name in names if not re.fullmatch(r"[a-z][a-zA-Z0-9]*", name)] == []


def test_every_name_on_hikerapis_wire_is_in_snake_case(spec: dict[str, Any]) -> None:
    theirs = {name for name in reachable(spec) if "/Hiker" in name}
    names = names_of(spec, theirs, THEIRS)

    assert {"exc_type", "user_id", "safe_int"} <= names
    assert [name for name in names if not re.fullmatch(r"[a-z]+(_[a-z]+)*", name)] == []


def test_what_is_documented_is_protected_as_documented(table: Front, spec: dict[str, Any]) -> None:
    tried = {
        (method, re.sub(r"/(?:req|msg|bat|wat)_\w+|(?<=/keys)/\w+", "/{}", path))
        for method, path in PROTECTED
    }
    told = {
        (method, re.sub(r"\{\w+\}", "{}", path)) for method, path in set(operations(spec)) - OPEN - THEIRS
    }

    assert tried | set(BODIES) >= told
    assert set(operations(spec)) >= THEIRS
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


@pytest.mark.parametrize(
    "name", ["index.html", "swagger-initializer.js", "oauth2-redirect.html", "swagger-ui.js.map"]
)
def test_nothing_is_served_of_the_package_but_what_docs_needs(table: Front, name: str) -> None:
    assert table.client.get(f"/docs/assets/{name}").status_code == 404


def test_the_page_of_docs_asks_no_other_host(table: Front) -> None:
    page = table.client.get("/docs").text
    assert len(re.findall(r'(?:href|src)="/docs/assets/[^"]+"', page)) >= 3
    assert re.findall(r"""["'](?:https?:)?//""", page) == []


def test_the_front_door_leads_to_docs(table: Front) -> None:
    response = table.client.get("/", follow_redirects=True)

    assert response.status_code == 200
    assert response.request.path == "/docs"
