"""The server of `http.server` for tests that open many connections at once."""

from http.server import ThreadingHTTPServer


class WebServer(ThreadingHTTPServer):
    """Answers each connection in a thread that does not delay the end of the process."""

    daemon_threads = True
    # With the default of 5, the kernel drops connections that tests open at once on a busy
    # machine. The client tries again after 1, 3 and 7 seconds, which exceeds its timeout.
    request_queue_size = 128
