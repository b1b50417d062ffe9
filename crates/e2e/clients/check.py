"""The clients requests and httpx: what each of them does with the server, once by HTTP and once by TLS."""
import sys

import httpx
import requests

plain, secure, authority = sys.argv[1:]
body = b"x" * (1 << 20)


def same(found, expected, what):
    if found != expected:
        sys.exit(f"{what}: {found!r} where {expected!r} was expected")


def check(client, name, base, version):
    for _ in range(3):
        answer = client.get(base + "/")
        same((answer.status_code, answer.content), (200, b"welcome"), f"{name}: GET")
    same(client.get(base + "/x/look").text.split()[0], version, f"{name}: the version that a servlet is told")
    same(client.get(base + "/large.bin").content, bytes([7]) * (3 << 20), f"{name}: a large file")
    same(client.post(base + "/x/length", content=body).text if hasattr(client, "build_request")
         else client.post(base + "/x/length", data=body).text, str(len(body)), f"{name}: POST")

    def pieces():
        for _ in range(64):
            yield b"y" * 16384

    answer = client.post(base + "/x/length", **({"content": pieces()} if hasattr(client, "build_request") else {"data": pieces()}))
    same(answer.text, str(1 << 20), f"{name}: POST of unknown length")
    answer = client.head(base + "/large.bin")
    same((answer.status_code, answer.headers["content-length"]), (200, str(3 << 20)), f"{name}: HEAD")
    same(client.get(base + "/none").status_code, 404, f"{name}: 404")
    answer = client.get(base + "/large.bin", headers={"range": "bytes=0-9"})
    same((answer.status_code, answer.content), (206, bytes([7]) * 10), f"{name}: a range")


for base in (plain, secure):
    with requests.Session() as client:
        # What the machine says of certificates would go before that.
        client.trust_env = False
        client.verify = authority
        check(client, "requests", base, "11")
    with httpx.Client(verify=authority, trust_env=False) as client:
        check(client, "httpx", base, "11")
with httpx.Client(verify=authority, http2=True, trust_env=False) as client:
    check(client, "httpx with HTTP/2", secure, "20")
    same(client.get(secure + "/").http_version, "HTTP/2", "httpx with HTTP/2: what was spoken")
with httpx.Client(http1=False, http2=True, trust_env=False) as client:
    check(client, "httpx with HTTP/2 by prior knowledge", plain, "20")
print("requests and httpx: as expected")
