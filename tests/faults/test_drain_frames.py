"""How a connection is drained, frame by frame: GOAWAY with 2^31-1, then with the real last stream."""

from __future__ import annotations

import socket
import threading
from contextlib import closing
from typing import Any

import h2.config
import h2.connection
import h2.events
from hyperframe.frame import Frame, GoAwayFrame, PingFrame

from tests.wire.clients import INFER, request, rows
from tests.wire.plane import document, model, route, running
from tests.wire.servers import ScriptedServer, Silent, scores

LAST = 2**31 - 1
HEAD_BYTES = 9


class Caller:
    """A caller whose connection hides GOAWAY and PING from its library, and answers them when the test says so."""

    def __init__(self, address: str) -> None:
        host, port = address.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), 10)
        self._connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._connection.initiate_connection()
        self._received = b""
        self.goaways: list[int] = []
        self.pings: list[bytes] = []
        self.ended: dict[int, dict[str, str]] = {}
        self.closed = False
        self._flush()

    def _flush(self) -> None:
        self._socket.sendall(self._connection.data_to_send())

    def call(self) -> int:
        stream = self._connection.get_next_available_stream_id()
        head = {
            ":method": "POST",
            ":scheme": "http",
            ":authority": "gateway.test",
            ":path": INFER,
            "content-type": "application/grpc",
            "te": "trailers",
        }
        body = request("spam", rows()).SerializeToString()
        self._connection.send_headers(stream, list(head.items()))
        self._connection.send_data(stream, b"\0" + len(body).to_bytes(4, "big") + body, end_stream=True)
        self._flush()
        return int(stream)

    def answer_ping(self) -> None:
        self._socket.sendall(PingFrame(0, opaque_data=self.pings.pop(0), flags=["ACK"]).serialize())

    def close(self) -> None:
        self._socket.close()

    def until(self, enough: Any) -> None:
        """Read frames until there is enough of them."""
        while not enough(self):
            data = self._socket.recv(65536)
            if not data:
                self.closed = True
                assert enough(self), "the gateway closed the connection"
                return
            self._received += data
            while self._take_frame():
                pass

    def _take_frame(self) -> bool:
        if len(self._received) < HEAD_BYTES:
            return False
        frame, length = Frame.parse_frame_header(memoryview(self._received[:HEAD_BYTES]))
        whole = self._received[: HEAD_BYTES + length]
        if len(whole) < HEAD_BYTES + length:
            return False
        self._received = self._received[HEAD_BYTES + length :]
        frame.parse_body(memoryview(whole[HEAD_BYTES:]))
        if isinstance(frame, GoAwayFrame):
            self.goaways.append(frame.last_stream_id)
        elif isinstance(frame, PingFrame) and "ACK" not in frame.flags:
            self.pings.append(frame.opaque_data)
        else:
            for event in self._connection.receive_data(whole):
                if isinstance(event, h2.events.TrailersReceived):
                    trailers = {str(name): str(value) for name, value in event.headers}
                    self.ended[event.stream_id] = trailers
            self._flush()
        return True


def test_a_connection_is_drained_without_losing_what_is_on_its_way() -> None:
    """Calls before the shutdown, after it, and between the two GOAWAYs are all answered; then the connection ends."""
    silent = Silent(scores(0.9))
    with ScriptedServer(silent) as server:
        policy = document([model("a", server.address)], [route(["a"])])
        with running(policy) as (plane, _), closing(Caller(plane.address)) as caller:
            held = caller.call()
            silent.wait_for(1)
            stopping = threading.Thread(target=plane.dataplane.shutdown, args=(8000,))
            stopping.start()
            # The grace's first part: nothing has been refused, nor said.
            welcome = caller.call()
            silent.wait_for(2)
            assert caller.goaways == []
            caller.until(lambda caller: caller.goaways and caller.pings)
            assert caller.goaways == [LAST]
            # It was on its way when the GOAWAY was.
            late = caller.call()
            silent.wait_for(3)
            caller.answer_ping()
            caller.until(lambda caller: len(caller.goaways) == 2)
            assert caller.goaways == [LAST, late]
            assert stopping.is_alive()
            silent.release()
            caller.until(lambda caller: len(caller.ended) == 3)
            assert {caller.ended[stream]["grpc-status"] for stream in (held, welcome, late)} == {"0"}
            caller.until(lambda caller: caller.closed)
            stopping.join(10)
            assert not stopping.is_alive()
            assert len(plane.records(3)) == 3
