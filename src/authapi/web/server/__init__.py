"""The HTTP/1.1 protocol for uvicorn: parses requests and limits what a client can send.

`protocol` has `HTTPProtocol`, which `authapi serve` uses; other applications start uvicorn with
`--http authapi:HTTPProtocol`. `limits` has the limits and the response to a refused request,
`lingering_close` the close of a connection, `declined_upgrade` the parsing of a request with a
declined upgrade, and `websocket_handshake` the checks of a WebSocket handshake.
"""
