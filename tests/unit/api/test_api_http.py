"""Versions, headers, errors, parameters, and what happens when clients leave."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from api_fakes import CONTAINER_ID, IMAGE_ID, FakeEngine, make_container

from tare import errors
from tare.api.errormap import error_response, status_of
from tare.engine.build_cache import PruneCache
from tare.engine.requests import Exit
from tare.model.container import ContainerState

Http = aiohttp.ClientSession


async def document(response: aiohttp.ClientResponse) -> Any:
    return json.loads(await response.read())


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/_ping", "/v1.24/_ping", "/v1.51/_ping"])
async def test_ping(http: Http, method: str, path: str) -> None:
    async with http.request(method, path) as response:
        assert (response.status, await response.text()) == (200, "OK" if method == "GET" else "")
        headers = response.headers
    assert headers["Api-Version"] == "1.51"
    assert headers["Builder-Version"] == "1"
    assert headers["Ostype"] == "linux"
    assert headers["Docker-Experimental"] == "false"
    assert headers["Server"].startswith("Tare/")
    assert headers["Swarm"] == "inactive"


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("1.52", "client version 1.52 is too new. Maximum supported API version is 1.51"),
        ("1.99", "client version 1.99 is too new. Maximum supported API version is 1.51"),
        ("2.0", "client version 2.0 is too new. Maximum supported API version is 1.51"),
        (
            "1.23",
            "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a "
            "newer version",
        ),
    ],
)
async def test_versions_outside_the_range(http: Http, version: str, message: str) -> None:
    async with http.get(f"/v{version}/version") as response:
        assert (response.status, await document(response)) == (400, {"message": message})


@pytest.mark.parametrize("path", ["/nothing", "/v1.51/nothing", "/vx/version", "/containers"])
async def test_unknown_page(http: Http, path: str) -> None:
    async with http.get(path) as response:
        assert (response.status, await document(response)) == (404, {"message": "page not found"})
        assert response.headers["Api-Version"] == "1.51"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.NotFound("x"), 404),
        (errors.Conflict("x"), 409),
        (errors.Conflict("x", code="port-in-use"), 500),
        (errors.InvalidArgument("x"), 400),
        (errors.ExecutableError("x", exit_code=127), 400),
        (errors.NotModified("x"), 304),
        (errors.Forbidden("x"), 403),
        (errors.Unauthorized("x"), 401),
        (errors.Unsupported("x"), 501),
        (errors.Unavailable("x"), 503),
        (errors.Exhausted("x"), 500),
        (errors.DataCorrupt("x"), 500),
        (errors.InternalError("x"), 500),
        (errors.TareError("x"), 500),
    ],
)
def test_error_map(error: errors.TareError, status: int) -> None:
    assert status_of(error) == status
    assert error_response(error).status == status


def test_every_error_class_has_a_status() -> None:
    def below(kind: type[errors.TareError]) -> set[type[errors.TareError]]:
        return {kind}.union(*(below(child) for child in kind.__subclasses__() if child.__module__ == "tare.errors"))

    named = below(errors.TareError) - {errors.TareError, errors.ExecutableError}
    assert len(named) == 11


def test_an_error_s_hint_and_code_are_members_of_their_own() -> None:
    response = error_response(errors.Conflict("taken", hint="choose another", code="name-in-use"))
    assert isinstance(response.body, bytes)
    assert json.loads(response.body) == {
        "message": "taken (choose another)", "code": "name-in-use", "hint": "choose another",
    }  # fmt: skip


async def test_not_modified_has_no_body(engine: FakeEngine, http: Http) -> None:
    engine.containers.add(make_container())
    engine.containers.error = errors.NotModified("is stopped already")
    async with http.post("/containers/web/stop") as response:
        assert (response.status, await response.read()) == (304, b"")


async def test_a_fault_is_an_answer_and_not_a_dead_connection(engine: FakeEngine, http: Http) -> None:
    engine.containers.add(make_container())
    engine.containers.error = ZeroDivisionError("division by zero")
    async with http.post("/containers/web/stop") as response:
        assert response.status == 500
        assert await document(response) == {"message": "internal error: ZeroDivisionError: division by zero"}


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/containers/create", b"", "invalid JSON: got EOF while reading request body"),
        ("/containers/create", b"{", "invalid JSON: "),
        ("/containers/create", b"[]", "invalid JSON: expected an object"),
        ("/containers/create", b'{"Image": 5}', "invalid request: Expected `str`, got `int` - at `$.Image`"),
        ("/containers/create", b'{"HostConfig": []}', "invalid request: HostConfig must be an object"),
        ("/containers/create", b'{"HostConfig": {"Memory": "1g"}}', "invalid request: Expected `int`"),
        ("/containers/create", b'{"HostConfig": {"PortBindings": 1}}', "invalid request: "),
        ("/containers/create", b'{"NetworkingConfig": {"EndpointsConfig": 1}}', "EndpointsConfig must be an object"),
        ("/containers/web/exec", b"{}", "No exec command specified"),
        ("/containers/web/resize", b"", "query parameter h is missing"),
        ("/containers/web/stop?t=x", b"", "query parameter t: 'x' is not a number"),
        ("/containers/web/wait?condition=soon", b"", 'invalid condition: "soon"'),
        ("/containers/web/rename", b"", "Neither old nor new names may be empty"),
        ("/images/create", b"", "query parameter fromImage or fromSrc is missing"),
        ("/networks/front/connect", b"{}", "Container is missing"),
        ("/tare/build", b'{"context": "relative"}', "expected an absolute path"),
        ("/tare/build", b'{"context": "/c", "tagz": []}', "unknown field"),
        ("/build?buildargs=[]", b"", "query parameter buildargs: expected a JSON object"),
        ("/build?labels=%7B", b"", "query parameter labels: not valid JSON"),
    ],
)
async def test_bad_requests(engine: FakeEngine, http: Http, path: str, body: bytes, message: str) -> None:
    engine.containers.add(make_container())
    async with http.post(path, data=body) as response:
        assert response.status == 400
        text = (await document(response))["message"]
    assert message in text
    assert not engine.builds.jobs


@pytest.mark.parametrize("filters", ["x", "[]", '{"a": 1}'])
async def test_bad_filters(http: Http, filters: str) -> None:
    async with http.get("/containers/json", params={"filters": filters}) as response:
        assert response.status == 400
        assert "filters" in (await document(response))["message"]


@pytest.mark.parametrize(
    "filters", ['{"name": ["a"], "health": [true]}', '{"name": {"a": true, "b": false}, "health": ["true"]}']
)
async def test_both_forms_of_filters(engine: FakeEngine, http: Http, filters: str) -> None:
    async with http.get("/containers/json", params={"filters": filters, "all": "true", "limit": "3"}) as response:
        assert response.status == 200
    assert engine.containers.calls == [("list", (True, {"name": ["a"], "health": ["true"]}, 3))]


async def test_create_takes_nulls_as_go_does(engine: FakeEngine, http: Http) -> None:
    body = {
        "Image": "app:1", "Hostname": None, "Env": None, "Cmd": "one string", "Entrypoint": ["a", "b"], "Labels": None,
        "Unknown": 1,
        "HostConfig": {
            "Memory": None, "LogConfig": {"Type": None, "Config": None}, "RestartPolicy": None, "ShmSize": 5,
            "PortBindings": {"80/tcp": [{"HostIp": None, "HostPort": "8080"}], "81/tcp": None},
            "Mounts": [{"Type": "volume", "Source": "v", "Target": "/d", "ReadOnly": None}],
        },
        "NetworkingConfig": {"EndpointsConfig": {"front": None, "back": {"Aliases": ["db"], "IPAMConfig": None}}},
    }  # fmt: skip
    async with http.post("/containers/create?name=/warned", json=body) as response:
        assert response.status == 201
        assert await document(response) == {"Id": CONTAINER_ID, "Warnings": ["careful"]}
    assert engine.containers.created is not None
    config, host, networking = engine.containers.created
    assert (config.cmd, config.entrypoint, config.env, config.hostname) == (["one string"], ["a", "b"], None, "")
    assert host.port_bindings is not None
    assert host.port_bindings["81/tcp"] is None
    assert (host.memory, host.shm_size, host.mounts[0].target if host.mounts else "") == (0, 5, "/d")
    assert networking is not None
    assert networking.endpoints_config is not None
    assert networking.endpoints_config["front"] is None
    assert networking.endpoints_config["back"] is not None
    assert networking.endpoints_config["back"].aliases == ["db"]
    assert engine.containers.calls[0] == ("create", "warned")


async def test_create_with_a_missing_network_is_no_404(engine: FakeEngine, http: Http) -> None:
    # Docker's client takes a 404 as "pull the image and try again".
    engine.containers.error = errors.NotFound("network nowhere not found")
    async with http.post("/containers/create", json={"Image": "app:1"}) as response:
        assert (response.status, await document(response)) == (400, {"message": "network nowhere not found"})
    engine.containers.error = errors.NotFound("No such image: app:1")
    async with http.post("/containers/create", json={"Image": "app:1"}) as response:
        assert response.status == 404


async def test_wait_sends_its_headers_at_once(engine: FakeEngine, http: Http) -> None:
    engine.containers.add(make_container())
    async with http.post("/containers/web/wait?condition=next-exit") as response:
        assert response.status == 200  # and yet nothing has exited
        assert engine.containers.exit is not None
        engine.containers.exit.set_result(Exit(code=5, error="lost"))
        assert await document(response) == {"StatusCode": 5, "Error": {"Message": "lost"}}


async def test_start_goes_on_when_its_client_leaves(engine: FakeEngine, http: Http) -> None:
    engine.containers.add(make_container(state=ContainerState()))
    engine.containers.start_gate = asyncio.Event()
    asking = asyncio.ensure_future(http.post("/containers/web/start"))
    async with asyncio.timeout(5):
        while ("start", "web") not in engine.containers.calls:
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        engine.containers.start_gate.set()
        while ("started", "web") not in engine.containers.calls:
            await asyncio.sleep(0)


async def test_build_ends_when_its_client_leaves(engine: FakeEngine, http: Http) -> None:
    engine.builds.hang = True
    async with asyncio.timeout(5):
        response = await http.post("/build", data=b"tar")
        assert b"Step 1/2" in await response.content.readline()
        response.close()
        await engine.builds.cancelled.wait()


async def test_tare_build_reports_events(engine: FakeEngine, http: Http) -> None:
    body = {"context": "/somewhere", "tags": ["x:1"], "dockerfile_text": "FROM base", "build_args": {"A": None}}
    async with http.post("/tare/build", json=body) as response:
        events = [json.loads(line) for line in (await response.read()).splitlines()]
    assert [event["event"] for event in events] == [
        "plan", "started", "done", "started", "output", "done", "finished", "result",
    ]  # fmt: skip
    assert events[0]["vertices"][1]["text"] == "RUN make"
    assert events[4] == {"event": "output", "id": "s2", "stream": "stdout", "data": "making\n"}
    assert events[-2]["image_id"] == events[-1]["image_id"] == f"sha256:{IMAGE_ID}"
    (job,) = engine.builds.jobs
    assert (str(job.context), job.dockerfile_text, job.tags, job.build_args) == (
        "/somewhere", "FROM base", ("x:1",), {"A": None},
    )  # fmt: skip


async def test_tare_build_with_a_tar_behind_the_document(engine: FakeEngine, http: Http) -> None:
    document = json.dumps({"tags": ["x:1"]}).encode()
    headers = {"Content-Type": "application/vnd.tare.build", "Tare-Document-Length": str(len(document))}
    async with http.post("/tare/build", data=document + b"the tar", headers=headers) as response:
        assert json.loads((await response.read()).splitlines()[-1])["event"] == "result"
    assert engine.builds.body == b"the tar"
    assert engine.builds.jobs[0].tags == ("x:1",)


@pytest.mark.parametrize(
    ("length", "body", "message"),
    [
        ("", b"{}", "is no length"),
        ("-1", b"{}", "is no length"),
        ("99999999999", b"{}", "is no length"),
        ("9", b"{}", "the body ends after 2 bytes"),
        ("1", b"{}", "invalid JSON"),
        ("14", b'{"context":"a"}', "invalid JSON"),
        ("16", b'{"context":"/a"}', "a build has one context"),
    ],
)
async def test_bad_framed_bodies(engine: FakeEngine, http: Http, length: str, body: bytes, message: str) -> None:
    headers = {"Content-Type": "application/vnd.tare.build", "Tare-Document-Length": length}
    async with http.post("/tare/build", data=body, headers=headers) as response:
        assert response.status == 400
        assert message in await response.text()
    assert not engine.builds.jobs


async def test_tare_build_from_an_address(engine: FakeEngine, http: Http) -> None:
    async with http.post("/tare/build", json={"remote": "https://h/r.git#v1", "dockerfile": "d/F"}) as response:
        await response.read()
    (job,) = engine.builds.jobs
    assert (job.remote, job.dockerfile, job.context, job.tar) == ("https://h/r.git#v1", "d/F", None, None)


async def test_build_reads_dockers_parameters(engine: FakeEngine, http: Http) -> None:
    query = {
        "remote": "https://h/r.git", "ulimits": '[{"Name":"nofile","Soft":10,"Hard":20}]', "shmsize": "1048576",
        "extrahosts": "a:1.2.3.4,b:1.2.3.5", "cachefrom": '["x:1"]', "memory": "0", "cpushares": "0",
        "cgroupparent": "", "rm": "1", "forcerm": "1", "version": "1", "squash": "0", "outputs": "[]",
        "pull": "true", "nocache": "1", "dockerfile": "sub/F", "networkmode": "none", "platform": "linux/amd64",
    }  # fmt: skip
    async with http.post("/build", params=query) as response:
        await response.read()
    (job,) = engine.builds.jobs
    assert (job.remote, job.tar, job.dockerfile, job.notes) == ("https://h/r.git", None, "sub/F", ())
    assert [(item.name, item.soft, item.hard) for item in job.ulimits] == [("nofile", 10, 20)]
    assert (job.shm_size, job.extra_hosts) == (1048576, ("a:1.2.3.4", "b:1.2.3.5"))
    assert (job.pull, job.no_cache, job.network, job.platform) == (True, True, "none", "linux/amd64")
    async with http.post("/build", params={"memory": "1000", "cgroupparent": "/x"}, data=b"tar") as response:
        await response.read()
    assert engine.builds.jobs[-1].notes == ("[Warning] memory, cgroupparent: not applied to RUN steps",)


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ({"version": "2"}, 501, "BuildKit sessions"),
        ({"remote": "client-session"}, 501, "BuildKit sessions"),
        ({"version": "3"}, 400, "invalid version"),
        ({"squash": "1"}, 501, "experimental"),
        ({"outputs": '[{"Type":"local"}]'}, 501, "tare build --output"),
        ({"securityopt": '["x"]'}, 400, "does not support setting security options"),
        ({"cachefrom": "x"}, 400, "cachefrom"),
        ({"cachefrom": '"x"'}, 400, "expected a JSON array"),
        ({"ulimits": "[{}]"}, 400, "Name"),
        ({"ulimits": "nofile"}, 400, "ulimits"),
        ({"shmsize": "-1"}, 400, "SHM size can not be less than 0"),
        ({"memory": "much"}, 400, "memory"),
    ],
)
async def test_bad_parameters_of_build(
    engine: FakeEngine, http: Http, query: dict[str, str], status: int, message: str
) -> None:
    async with http.post("/build", params=query, data=b"tar") as response:
        assert response.status == status
        assert message in await response.text()
    assert not engine.builds.jobs


async def test_tare_build_failure_is_the_last_event(engine: FakeEngine, http: Http) -> None:
    engine.builds.error = errors.NotFound("no such stage", hint="name one that exists", code="no-stage")
    async with http.post("/tare/build", json={"context": "/somewhere"}) as response:
        last = json.loads((await response.read()).splitlines()[-1])
    assert last["event"] == "error"
    assert (last["message"], last["code"], last["exit_code"]) == (
        "no such stage (name one that exists)",
        "no-stage",
        None,
    )


async def test_tare_info_and_weigh(http: Http) -> None:
    async with http.get("/tare/info") as response:
        assert (await document(response))["versions"]["runtime"] == "runc"
    async with http.get("/tare/images/tare.local/debian:12/weigh") as response:
        assert await document(response) == {"Id": f"sha256:{IMAGE_ID}", "Size": 12345, "depth": 2}
    async with http.get("/tare/images/app:1/weigh", params={"depth": "5"}) as response:
        assert (await document(response))["depth"] == 5
    async with http.get("/tare/images/app:1/weigh", params={"depth": "deep"}) as response:
        assert response.status == 400


async def test_bills_of_materials(http: Http) -> None:
    for query, kind in (("", "spdx-json"), ("?format=cyclonedx-json", "cyclonedx-json")):
        async with http.get(f"/tare/images/tare.local/debian:12/sbom{query}") as response:
            assert response.content_type == f"application/{kind}"
            assert await response.read() == b'{"of":"tare.local/debian:12"}'
    for path, status, code in (("nothing/sbom", 404, None), ("app:1/sbom?format=odd", 400, "sbom-format")):
        async with http.get(f"/tare/images/{path}") as response:
            assert response.status == status
            assert (await response.json()).get("code") == code


async def test_disk_usage(http: Http) -> None:
    async with http.get("/system/df") as response:
        usage = await document(response)
    assert usage["LayersSize"] == 500
    assert (usage["Containers"][0]["SizeRw"], usage["Containers"][0]["Image"]) == (10, "app:1")
    assert (usage["Images"][0]["SharedSize"], usage["Images"][0]["Containers"]) == (45, 1)
    assert usage["Volumes"][0]["UsageData"] == {"Size": 77, "RefCount": 0}
    assert usage["BuilderSize"] == 70
    assert usage["BuildCache"][0] == {
        "ID": "a1", "Parents": ["b2"], "Type": "regular", "Description": "RUN make", "InUse": False, "Shared": False,
        "Size": 70, "CreatedAt": "1970-01-01T00:00:05.000000Z", "LastUsedAt": "1970-01-01T00:00:06.500000Z",
        "UsageCount": 3,
    }  # fmt: skip
    assert [usage["BuildCache"][1][name] for name in ("Parents", "InUse", "Shared")] == [None, True, True]
    async with http.get("/system/df?type=volume&type=build-cache") as response:
        chosen = await document(response)
    assert (chosen["LayersSize"], chosen["Images"], chosen["Containers"]) == (0, None, None)
    assert (chosen["Volumes"], chosen["BuildCache"]) == (usage["Volumes"], usage["BuildCache"])


async def test_records_of_the_build_cache(http: Http) -> None:
    async with http.get("/tare/build/cache", params={"filters": '{"id": ["b2"]}'}) as response:
        (record,) = await document(response)
    assert (record["ID"], record["Mutable"]) == ("b2", False)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", PruneCache()),
        (
            "all=1&filters=%7B%22until%22%3A%7B%2224h%22%3Atrue%7D%7D",
            PruneCache(everything=True, filters={"until": ["24h"]}),
        ),
        ("keep-storage=5", PruneCache(reserved=5)),
        (
            "keep-storage=5&reserved-space=6&max-used-space=7&min-free-space=8",
            PruneCache(reserved=6, max_used=7, min_free=8),
        ),
    ],
)
async def test_pruning_the_build_cache(engine: FakeEngine, http: Http, query: str, expected: PruneCache) -> None:
    async with http.post(f"/build/prune?{query}") as response:
        assert (response.status, await document(response)) == (200, {"CachesDeleted": ["a1"], "SpaceReclaimed": 70})
    assert engine.build_cache.pruned == [expected]


@pytest.mark.parametrize("query", ["max-used-space=much", "reserved-space=-1", "filters=%5B%5D"])
async def test_pruning_with_nonsense(engine: FakeEngine, http: Http, query: str) -> None:
    async with http.post(f"/build/prune?{query}") as response:
        assert (response.status, query.partition("=")[0] in (await document(response))["message"]) == (400, True)
    assert engine.build_cache.pruned == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/images/search?term=a"),
        ("POST", "/session"),
        ("POST", "/build?version=2"),
    ],
)
async def test_what_is_not_there_yet_says_so(engine: FakeEngine, http: Http, method: str, path: str) -> None:
    engine.containers.add(make_container())
    async with http.request(method, path) as response:
        assert response.status == 501
        if method != "HEAD":
            assert "not supported" in (await document(response))["message"]


async def test_swarm_is_inactive(http: Http) -> None:
    async with http.get("/swarm") as response:
        assert (response.status, await document(response)) == (503, {"message": "This node is not a swarm manager."})


async def test_headers_as_long_as_go_takes_them(http: Http) -> None:
    async with http.get("/_ping", headers={"X-Registry-Config": "a" * 500_000}) as response:
        assert response.status == 200
