"""One question over HTTP, from servers that send too much, too slowly, or send us elsewhere."""

import contextlib
import gzip
import json
import resource
import signal
import socket
import threading
import time
import tracemalloc
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from nas_agent_graph.context import SearchInterrupted, SearchPaused
from nas_agent_graph.llm.client import ChatClient, ServiceRefused
from nas_agent_graph.llm.exchange import MAX_BODY_BYTES
from nas_agent_graph.llm.failures import failure_of, pause_message
from nas_agent_graph.llm.parsing import read_answer
from nas_agent_graph.llm.prompt_size import prompt_tokens
from nas_agent_graph.settings import LLMSettings
from nas_system.errors import ProposalError

GOOD = json.dumps(
    {"parent": "run_0000", "changes": [{"parameter": "training.lr", "value": "0.003"}], "hypothesis": "h"}
)
QUESTION = [{"role": "user", "content": "Propose."}]
MIB = 2**20


def completion(content=GOOD):
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}).encode()


class Server(ThreadingHTTPServer):
    """Answers every request as `answer(handler)` does; `ended` counts the connections that are over."""

    daemon_threads = True

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.asked = []
        self.ended = threading.Semaphore(0)
        self.stopping = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"

    def __exit__(self, *_):
        self.stopping.set()
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.path, self.headers))
        try:
            self.server.answer(self)
        except OSError:
            self.close_connection = True
        self.server.ended.release()

    do_GET = do_POST

    def send(self, body, status=200, **headers):
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def trickle(self, part):
        """Send a part again and again, until somebody hangs up."""
        while not self.server.stopping.wait(0.02):
            self.wfile.write(part)

    def log_message(self, *_):
        pass

    def handle(self):
        with contextlib.suppress(ConnectionError):
            super().handle()


def client(server, **changed):
    values = {"timeout_s": 60.0, "max_retries": 0, **changed}
    return ChatClient(
        LLMSettings("scripted", server.url, "sk-canary-0123456789", **values), warn=lambda _: None
    )


# --- bytes ----------------------------------------------------------------------------------


def bomb(size, layers=1):
    """Compress blanks around an answer."""
    content = b" " * size + completion()
    for _ in range(layers):
        content = gzip.compress(content, 1)
    return content


def peak_memory_mib(action):
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1] / MIB
    finally:
        tracemalloc.stop()


TOO_LONG = {
    "gzip": lambda: (bomb(40 * MIB), {"Content_Encoding": "gzip"}),
    "deflate": lambda: (zlib.compress(b" " * 40 * MIB, 1), {"Content_Encoding": "deflate"}),
    "plain": lambda: (completion("x" * 40 * MIB), {}),
    "many objects": lambda: (b'{"choices": [' + b"{}," * 13 * MIB, {}),
}


@pytest.mark.parametrize("kind", TOO_LONG)
@pytest.mark.fault(34)
def test_an_answer_of_any_size_takes_little_memory_and_goes_back_as_too_long(kind):
    body, headers = TOO_LONG[kind]()
    answers = []
    with Server(lambda handler: handler.send(body, **headers)) as server:
        chat = client(server)
        peak = peak_memory_mib(lambda: answers.append(chat.ask(QUESTION)))
    (answer,) = answers
    with pytest.raises(ProposalError, match="longer than 4 MiB, and the rest of it was not read"):
        read_answer(answer)
    assert answer.input_tokens == prompt_tokens(QUESTION)
    assert answer.tokens_estimated
    assert len(json.dumps(answer.to_event())) < 2000
    assert peak < 64 * MAX_BODY_BYTES / MIB


@pytest.mark.fault(34)
def test_an_answer_without_an_end_is_read_to_the_limit_and_no_further():
    def flood(handler):
        handler.close_connection = True
        handler.send_response(200)
        handler.end_headers()
        while not handler.server.stopping.is_set():
            handler.wfile.write(b"x" * 65536)

    with Server(flood) as server:
        answer = client(server).ask(QUESTION)
        assert server.ended.acquire(timeout=30), "the connection is still open"
    assert "longer than 4 MiB" in answer.garbled


@pytest.mark.fault(34)
def test_the_largest_answer_that_is_read_takes_a_bounded_memory():
    body = b'{"choices": [' + b"{}," * (MAX_BODY_BYTES // 3 - 10) + b"{}]}"
    with Server(lambda handler: handler.send(body)) as server:
        chat = client(server)
        peak = peak_memory_mib(lambda: chat.ask(QUESTION))
    assert peak < 64 * MAX_BODY_BYTES / MIB


@pytest.mark.fault(34)
def test_two_layers_of_compression_are_not_undone():
    with Server(lambda handler: handler.send(bomb(40 * MIB, 2), Content_Encoding="gzip, gzip")) as server:
        answer = client(server).ask(QUESTION)
    with pytest.raises(ProposalError, match="no chat completion"):
        read_answer(answer)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "x-gzip", "GZIP", "identity"])
def test_an_answer_that_is_compressed_though_nobody_asked_for_it_is_read(encoding):
    compress = {"identity": lambda body: body, "deflate": zlib.compress}.get(encoding, gzip.compress)
    with Server(lambda handler: handler.send(compress(completion()), Content_Encoding=encoding)) as server:
        assert client(server).ask(QUESTION).text == GOOD
        assert server.asked[0][1]["Accept-Encoding"] == "identity"


def test_blanks_before_and_after_an_answer_do_no_harm():
    body = b" " * MIB + completion() + b" " * 8 * MIB
    with Server(lambda handler: handler.send(body)) as server:
        assert client(server).ask(QUESTION).text == GOOD


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content_Encoding": "gzip"},
        {"Content_Type": "text/plain; charset=bz2"},
        {"Content_Type": "x; charset=zlib"},
    ],
)
@pytest.mark.fault(34)
def test_an_error_of_any_size_is_shown_in_one_line(headers):
    body = json.dumps({"error": {"message": "no " * 3 * MIB}}).encode()
    body = gzip.compress(body) if "Content_Encoding" in headers else body
    with (
        Server(lambda handler: handler.send(body, 500, **headers)) as server,
        pytest.raises(ServiceRefused) as refused,
    ):
        client(server).ask(QUESTION)
    assert "an error 500" in str(refused.value)
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("field", ["message", "code", "param", "type"])
@pytest.mark.parametrize("odd", [5, [1], {"a": 1}, None, True])
def test_an_error_whose_parts_have_other_types_pauses_the_search(field, odd):
    body = json.dumps({"error": {"message": "no", "code": "c", field: odd}}).encode()
    with Server(lambda handler: handler.send(body, 403)) as server, pytest.raises(ServiceRefused) as refused:
        client(server).ask(QUESTION)
    assert refused.value.failure.kind == "forbidden"


# --- time -----------------------------------------------------------------------------------


def trickled_head(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    handler.trickle(b"X-Wait: 1\r\n")


def trickled_letters_of_a_head(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Wait: ")
    handler.trickle(b"x")


def trickled_body(handler):
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    handler.trickle(b" ")


def trickled_body_that_reads_as_an_answer(handler):
    """Send the whole answer and then blanks: cut off anywhere, it is an answer."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(completion())
    handler.trickle(b" ")


def silence(handler):
    handler.server.stopping.wait()


def endless_informing(handler):
    handler.trickle(b"HTTP/1.1 102 Processing\r\n\r\n")


@pytest.mark.parametrize(
    "answer",
    [
        trickled_head,
        trickled_letters_of_a_head,
        trickled_body,
        trickled_body_that_reads_as_an_answer,
        silence,
        endless_informing,
    ],
)
@pytest.mark.timeout(60)
@pytest.mark.fault(34)
def test_every_try_ends_at_the_timeout_and_so_does_its_connection(answer):
    with Server(answer) as server:
        with pytest.raises(ServiceRefused, match=r"no answer within 0\.5 s") as refused:
            client(server, timeout_s=0.5, max_retries=1).ask(QUESTION)
        assert len(server.asked) == 2, "the second try came after the end of the first"
        if answer is not silence:
            assert all(server.ended.acquire(timeout=30) for _ in range(2)), "a connection is still open"
    assert refused.value.failure.kind == "timeout"


@pytest.mark.timeout(60)
def test_a_slow_try_is_followed_by_another():
    def slow_once(handler):
        trickled_body(handler) if len(handler.server.asked) == 1 else handler.send(completion())

    with Server(slow_once) as server:
        assert client(server, timeout_s=0.5, max_retries=1).ask(QUESTION).text == GOOD


def test_ctrl_c_ends_the_connection_and_asks_nothing_again():
    def stop(number, _frame):
        raise SearchInterrupted(number)

    def trickled(handler):
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        trickled_body(handler)

    before = signal.signal(signal.SIGALRM, stop)
    try:
        with Server(trickled) as server:
            chat = client(server, timeout_s=3600.0, max_retries=2)
            with pytest.raises(SearchInterrupted):
                chat.ask(QUESTION)
            assert server.ended.acquire(timeout=30), "the connection is still open"
            assert len(server.asked) == 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("answer", [silence, trickled_body, lambda handler: handler.send(completion())])
def test_no_thread_is_left_by_a_question(answer):
    before = set(threading.enumerate())
    with Server(answer) as server, contextlib.suppress(ServiceRefused):
        client(server, timeout_s=0.5).ask(QUESTION)
    deadline = time.monotonic() + 30
    while (left := set(threading.enumerate()) - before) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


# --- redirects ------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.fault(34)
def test_a_redirect_to_another_host_is_named_and_not_followed(status):
    with Server(lambda handler: handler.send(completion())) as other:
        target = f"{other.url}/chat/completions"
        with (
            Server(lambda handler: handler.send(b"", status, Location=target)) as server,
            pytest.raises(ServiceRefused) as refused,
        ):
            client(server, max_retries=2).ask(QUESTION)
        assert len(server.asked) == 1
        assert other.asked == []
    assert refused.value.failure.kind == "redirect"
    assert f"set NAS_LLM_BASE_URL to {other.url} if you trust it" in str(refused.value)


@pytest.mark.parametrize(
    "location",
    ["//elsewhere.example/v1/chat/completions", "https://127.0.0.1/v1", "file:///etc/passwd", "ftp://a/b"],
)
def test_another_scheme_or_port_is_another_host(location):
    with (
        Server(lambda handler: handler.send(b"", 307, Location=location)) as server,
        pytest.raises(ServiceRefused, match="redirects to another host"),
    ):
        client(server).ask(QUESTION)


def test_a_redirect_within_the_host_is_followed():
    def moved(handler):
        if handler.path.startswith("/v1/"):
            handler.send(b"", 308, Location="/other/v1/chat/completions")
        else:
            handler.send(completion())

    with Server(moved) as server:
        assert client(server).ask(QUESTION).text == GOOD
        assert [path for path, _ in server.asked] == ["/v1/chat/completions", "/other/v1/chat/completions"]


@pytest.mark.parametrize("location", ["/v1/chat/completions", "", "http://[", "http://a b/"])
def test_a_redirect_that_leads_nowhere_pauses_the_search(location):
    with (
        Server(lambda handler: handler.send(b"", 307, Location=location)) as server,
        pytest.raises(SearchPaused),
    ):
        client(server).ask(QUESTION)
    assert len(server.asked) < 10


def test_a_proxy_of_the_environment_is_used(run_cli, tmp_path):
    with Server(lambda handler: handler.send(completion())) as proxy:
        named = {"NAS_LLM_MODEL": "m", "NAS_LLM_BASE_URL": "http://model.invalid/v1", "NAS_LLM_API_KEY": "k"}
        address = f"http://127.0.0.1:{proxy.server_port}"
        proxied = {"http_proxy": address, "HTTP_PROXY": address, "no_proxy": "", "NO_PROXY": ""}
        done = run_cli("nas_agent_graph.doctor", cwd=tmp_path, env=named | proxied)
        assert {path for path, _ in proxy.asked} == {"http://model.invalid/v1/chat/completions"}
    assert "json_schema  understood" in done.stdout
    assert "proxy" not in done.stderr


# --- this machine ---------------------------------------------------------------------------


@pytest.mark.fault(11)
def test_without_a_file_descriptor_the_search_pauses_and_blames_nobody_else():
    with Server(lambda handler: handler.send(completion())) as server:
        chat = client(server)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        with socket.socket() as first_free:
            number = first_free.fileno()
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, limits[1]))
        try:
            with pytest.raises(ServiceRefused) as refused:
                chat.ask(QUESTION)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert chat.ask(QUESTION).text == GOOD
    said = str(refused.value)
    assert refused.value.exit_code == 4
    assert "this machine has no file descriptor left" in said
    assert "ulimit -a" in said
    assert "run the same command to continue" in said
    assert not any(word in said for word in ("scripted", "NAS_LLM", server.url))


@pytest.mark.parametrize(
    ("error", "lacking"),
    [
        (MemoryError(), "memory"),
        (OSError(12, "Cannot allocate memory"), "memory"),
        (OSError(23, "Too many open files in system"), "file descriptor"),
        (RuntimeError("can't start new thread"), "thread"),
    ],
)
def test_what_the_machine_lacks_is_named(error, lacking):
    settings = LLMSettings("scripted", None, "key")
    failure = failure_of(error, settings)
    assert failure.kind == "machine"
    assert f"no {lacking} left" in pause_message(failure, settings)
