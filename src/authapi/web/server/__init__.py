"""How the bytes of a connection become requests: the HTTP/1.1 protocol that uvicorn runs.

`protocol` is the class that `authapi serve` names, and that other applications may name as
`authapi:HTTPProtocol`; `limits` is what it asks of a request, `closing` how it ends a connection,
`resumed` how it reads on after an upgrade that is not taken.
"""
