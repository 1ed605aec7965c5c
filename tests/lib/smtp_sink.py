#!/usr/bin/python3
"""A mail server that keeps what it gets: tests/lib/smtp_sink.py FILE [OPTIONS]

Prints its port, then appends each mail to FILE, as a line of JSON. Whom a mail is for decides what
becomes of it, by the name before the @:
  nobody      refused for good (550)
  busy        refused for now (451)
  later       refused for now the first time
  spam        refused for good once the mail is there (554)
"""
import argparse
import asyncio
import json
import ssl

from aiosmtpd.smtp import SMTP, AuthResult


class Sink:
    def __init__(self, path):
        self.path = path
        self.put_off = set()

    async def handle_RCPT(self, server, session, envelope, address, options):
        name = address.partition("@")[0]
        if name == "nobody":
            return "550 5.1.1 no such user here"
        if name == "busy":
            return "451 4.3.2 come back later"
        if name == "later" and address not in self.put_off:
            self.put_off.add(address)
            return "451 4.7.1 greylisted"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        names = [address.partition("@")[0] for address in envelope.rcpt_tos]
        if "spam" in names:
            return "554 5.7.1 that is spam"
        mail = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "text": envelope.content.decode("latin-1"),
            "tls": server.transport.get_extra_info("ssl_object") is not None,
            "login": session.auth_data,
            "hello": session.host_name,
        }
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(mail) + "\n")
        return "250 OK"


def arguments():
    parser = argparse.ArgumentParser(description="A mail server that keeps what it gets.")
    parser.add_argument("file")
    parser.add_argument("--cert", help="with --key: STARTTLS, and no mail without it")
    parser.add_argument("--key")
    parser.add_argument("--implicit", action="store_true", help="TLS from the first byte")
    parser.add_argument("--login", help="NAME:PASSWORD, and no mail without it")
    return parser.parse_args()


async def serve(args):
    tls = None
    if args.cert:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(args.cert, args.key)

    def authenticate(server, session, envelope, mechanism, data):
        given = f"{data.login.decode()}:{data.password.decode()}"
        return AuthResult(success=given == args.login, handled=False,
                          auth_data=data.login.decode())

    options = {"hostname": "sink.test", "decode_data": False, "timeout": 300}
    if args.login:
        options.update(authenticator=authenticate, auth_required=True,
                       auth_require_tls=tls is not None and not args.implicit)
    if tls and not args.implicit:
        options.update(tls_context=tls, require_starttls=True)
    sink = Sink(args.file)
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(sink, **options), "127.0.0.1", 0, ssl=tls if args.implicit else None)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(arguments()))
