"""The server behind the page: reads studies and stores, hands work to `jobs`, serves the built page.

It listens on 127.0.0.1 only. Nothing heavy runs here: a table is read and sent, everything else is a job in
the worker process.
"""

import contextlib
import json
import secrets
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from transect.errors import TransectError
from transect.files import dumps, loads
from transect.page import starting
from transect.page.catalog import Catalog
from transect.page.guard import Guard
from transect.page.jobs import Jobs
from transect.page.payload import columns, few_labels, pack_positions
from transect.page.tasks import Tasks
from transect.page.worker import READINGS, WORK, integer
from transect.work.options import Option

PAGE = Path(__file__).parent / "built"
ASSETS = {"page.js": "text/javascript", "page.css": "text/css", "icon.svg": "image/svg+xml"}
#: Characters of a request's body: a long prompt fits, a flood does not.
BODY = 1 << 20


def make_app(roots: Sequence[str | Path], token: str, hosts: set[str], models: Sequence[str] = ()) -> Guard:
    """The ASGI application over some folders."""
    catalog = Catalog(roots, models)
    scratch = tempfile.TemporaryDirectory(prefix="transect-app-")
    jobs, tasks = Jobs(Path(scratch.name)), Tasks(catalog.roots[0])

    @contextlib.asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        yield
        jobs.close()
        tasks.close()
        scratch.cleanup()

    app = Starlette(
        routes=[*routes(catalog, jobs), *data_routes(catalog), *task_routes(catalog, tasks)],
        lifespan=life,
        exception_handlers={TransectError: _refused},
    )
    return Guard(app, token, hosts)


def routes(catalog: Catalog, jobs: Jobs) -> list[Route]:
    """What can be asked for."""

    async def catalog_(request: Request) -> Response:
        return _json(await run_in_threadpool(catalog.scan))

    async def submit(request: Request) -> Response:
        wanted = _read(await _body(request))
        return _json(jobs.submit(*_resolved(catalog, wanted)).card())

    async def listed(request: Request) -> Response:
        return _json([job.card() for job in jobs.all()])

    async def cancel(request: Request) -> Response:
        return _json(jobs.cancel(request.path_params["job"]).card())

    async def events(request: Request) -> Response:
        job = jobs.find(request.path_params["job"])
        start = (
            integer(
                request.headers.get("last-event-id", request.query_params.get("from", "-1")), "from", least=-1
            )
            + 1
        )
        lines = (f"id: {k}\ndata: {dumps(e)}\n\n" async for k, e in jobs.follow(job, start))
        return StreamingResponse(lines, media_type="text/event-stream")

    async def values(request: Request) -> Response:
        step = integer(request.query_params.get("step", "0"), "step")
        read = await run_in_threadpool(lambda: jobs.values(request.path_params["job"], step))
        return Response(read, media_type="application/octet-stream")

    async def file(request: Request) -> Response:
        return FileResponse(jobs.file(request.path_params["job"]), media_type="application/octet-stream")

    return [
        Route("/", _page),
        Route("/assets/{name}", _asset),
        Route("/api/catalog", catalog_),
        Route("/api/jobs", submit, methods=["POST"]),
        Route("/api/jobs", listed, methods=["GET"]),
        Route("/api/jobs/{job}", cancel, methods=["DELETE"]),
        Route("/api/jobs/{job}/events", events),
        Route("/api/jobs/{job}/values", values),
        Route("/api/jobs/{job}/file", file),
    ]


def data_routes(catalog: Catalog) -> list[Route]:
    """What studies and stores hold."""

    async def table(request: Request) -> Response:
        study, name = request.path_params["study"], request.path_params["name"]
        return _json(await run_in_threadpool(lambda: columns(catalog.table(study, name))))

    async def positions(request: Request) -> Response:
        study, name = request.path_params["study"], request.path_params["name"]
        packed = await run_in_threadpool(lambda: pack_positions(catalog.table(study, name)))
        return Response(packed, media_type="application/octet-stream")

    async def figure(request: Request) -> Response:
        study, name = request.path_params["study"], request.path_params["name"]
        drawn = await run_in_threadpool(lambda: catalog.figure(study, name))
        return Response(drawn, media_type="image/svg+xml")

    async def texts(request: Request) -> Response:
        return _json(await run_in_threadpool(lambda: _texts(catalog, request)))

    async def labels(request: Request) -> Response:
        store = catalog.store(request.path_params["store"])
        return _json({k: v["values"] for k, v in (await run_in_threadpool(few_labels, store)).items()})

    return [
        Route("/api/study/{study}/table/{name}", table),
        Route("/api/study/{study}/positions/{name}", positions),
        Route("/api/study/{study}/figure/{name}", figure),
        Route("/api/store/{store}/texts", texts),
        Route("/api/store/{store}/labels", labels),
    ]


def task_routes(catalog: Catalog, tasks: Tasks) -> list[Route]:
    """What can be started, and what was."""

    async def forms(request: Request) -> Response:
        return _json(await run_in_threadpool(lambda: starting.offered(catalog.scan(), tasks.root)))

    async def plan(request: Request) -> Response:
        wanted = _read(await _body(request))
        return _json(await run_in_threadpool(lambda: starting.plan(wanted, catalog.scan(), tasks)))

    async def start(request: Request) -> Response:
        wanted = _read(await _body(request))
        return _json(await run_in_threadpool(lambda: starting.start(wanted, catalog.scan(), tasks)))

    async def listed(request: Request) -> Response:
        return _json(await run_in_threadpool(tasks.cards))

    async def change(request: Request) -> Response:
        key = request.path_params["task"]
        do = {"cancel": tasks.cancel, "resume": tasks.resume, "forget": tasks.forget}
        action = do.get(request.path_params["action"])
        if action is None:
            raise TransectError("a task can be cancelled, resumed or forgotten.")
        await run_in_threadpool(action, key)
        return _json(await run_in_threadpool(tasks.cards))

    return [
        Route("/api/forms", forms),
        Route("/api/plan", plan, methods=["POST"]),
        Route("/api/tasks", start, methods=["POST"]),
        Route("/api/tasks", listed, methods=["GET"]),
        Route("/api/tasks/{task}/{action}", change, methods=["POST"]),
    ]


async def _page(request: Request) -> Response:
    return FileResponse(PAGE / "index.html", media_type="text/html")


async def _asset(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in ASSETS:
        return JSONResponse({"message": "no such file"}, 404)
    return FileResponse(PAGE / name, media_type=ASSETS[name])


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, TransectError)
    return JSONResponse({"message": error.message, "fix": error.fix}, 400)


def _json(value: Any) -> Response:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Response(text, media_type="application/json")


async def _body(request: Request) -> bytes:
    """The body of a request, read no further than the limit."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > BODY:
            raise TransectError(f"a request of more than {BODY:,} bytes.", "Shorten the prompt.")
    return body


def _read(body: bytes) -> dict[str, Any]:
    try:
        wanted = loads(body)
    except (ValueError, RecursionError) as error:
        raise TransectError(f"not JSON ({error}).") from error
    if not isinstance(wanted, dict):
        raise TransectError("a job is an object.")
    return wanted


def _resolved(catalog: Catalog, wanted: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """A job's kind and arguments, ids replaced by what they stand for."""
    kind, arguments = str(wanted.get("kind", "")), {k: v for k, v in wanted.items() if k != "kind"}
    if kind == "live":
        arguments["model"] = catalog.model(str(arguments.get("model", "")))
    elif kind == "cloud":
        several = arguments.get("stores")
        if not isinstance(several, list) or not 1 <= len(several) <= 2:
            raise TransectError("a cloud is of one store or two.")
        arguments["stores"] = [str(catalog.store(str(key)).path) for key in several]
    elif kind in READINGS or kind == "scatter":
        arguments["store"] = str(catalog.store(str(arguments.get("store", ""))).path)
        if kind == "scatter":
            arguments["plan"] = catalog.provenance(str(arguments.get("study", "")))
    else:
        raise TransectError(f"no job of kind {kind!r}.", f"There are: {', '.join(WORK)}.")
    return kind, arguments


def _texts(catalog: Catalog, request: Request) -> dict[str, Any]:
    store = catalog.store(request.path_params["store"])
    first = integer(request.query_params.get("start", "0"), "start")
    if (key := request.query_params.get("id")) is not None:
        if key not in store.ids:
            raise TransectError(f"no text {key!r:.80} in this store.")
        first = store.ids.index(key)
    shown = range(first, min(first + 20, len(store)))
    rows = [{"index": i, "id": store.ids[i], "tokens": store.tokens(i)} for i in shown]
    return {"count": len(store), "texts": rows}


def bind(port: int) -> socket.socket:
    """A listening socket on 127.0.0.1; port 0 takes a free one."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        raise TransectError(
            f"port {port} cannot be used ({error.strerror}).", "Give another --port, or 0."
        ) from error
    listener.listen(128)
    return listener


def serve(
    folders: Sequence[str | Path],
    *,
    port: Annotated[int, Option(0, "Port on 127.0.0.1; 0 takes a free one.", least=0, most=65535)] = 0,
    models: Sequence[str] = (),
    ready: Callable[[str], None] = print,
    browser: Callable[[str], Any] | None = None,
) -> None:
    """Look at studies and stores in a browser: a study, a store, or folders that hold many.

    Prints its address, alone, on the first line of stdout, and opens it. Only this machine can ask, and only
    with the token of that address or the cookie that a browser got for it; nothing leaves the machine. Stop
    with Ctrl-C.

    Args:
        folders: Studies, stores, or folders of them.
        models: A model to prompt, beside those that the runs name.
        ready: Called with the address once connections are taken.
        browser: Called with an address that opens the page once, to hand to another program.
    """
    import uvicorn

    if not (PAGE / "page.js").is_file():
        raise TransectError("the page was not built.", "Run: make page (needs Node 20 or newer).")
    token = secrets.token_urlsafe(24)
    Catalog(folders, models)  # a folder that is not there is told before anything is opened
    listening = bind(port)
    at = listening.getsockname()[1]
    app: Any = make_app(folders, token, {f"127.0.0.1:{at}", f"localhost:{at}"}, models)
    server = uvicorn.Server(
        uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=2, server_header=False
        )
    )
    ready(f"http://127.0.0.1:{at}/?token={token}")
    if browser:
        browser(f"http://127.0.0.1:{at}/?code={app.code()}")
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is how it ends
        server.run(sockets=[listening])
