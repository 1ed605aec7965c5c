"""Certificates that are wrong in some way, and servers that show them."""
import contextlib
import select
import socket
import ssl
import struct
import subprocess
import threading

KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


def openssl(directory, *arguments):
    subprocess.run(["openssl", *map(str, arguments)], cwd=directory, check=True, timeout=30,
                   stdin=subprocess.DEVNULL, capture_output=True)


class Certificate:
    def __init__(self, directory, name):
        self.certificate = directory / f"{name}.crt"
        self.key = directory / f"{name}.key"


def self_signed(directory, host="localhost"):
    made = Certificate(directory, "self-signed")
    openssl(directory, "req", "-x509", *KEY, "-days", "1", "-subj", f"/CN={host}",
            "-addext", f"subjectAltName=DNS:{host}", "-keyout", made.key, "-out", made.certificate)
    return made


def signed(directory, authority, name, host="localhost", dates=("20200101000000Z",
                                                                "20360101000000Z")):
    """By the authority of tests/services.sh, for a time that may be over."""
    made = Certificate(directory, name)
    request, config = directory / f"{name}.csr", directory / f"{name}.cnf"
    (directory / f"{name}.txt").write_text("")
    config.write_text(f"[ca]\ndefault_ca = this\n[this]\ndatabase = {directory}/{name}.txt\n"
                      f"new_certs_dir = {directory}\nrand_serial = yes\ndefault_md = sha256\n"
                      "policy = any\ncopy_extensions = copy\n[any]\ncommonName = supplied\n")
    openssl(directory, "req", *KEY, "-subj", f"/CN={host}", "-addext",
            f"subjectAltName=DNS:{host}", "-keyout", made.key, "-out", request)
    openssl(directory, "ca", "-batch", "-notext", "-config", config, "-in", request,
            "-cert", authority / "ca.crt", "-keyfile", authority / "ca.key",
            "-startdate", dates[0], "-enddate", dates[1], "-out", made.certificate)
    return made


class Stand:
    """Stands before a port. What it does with those who connect, others say in serve()."""

    def __init__(self, port):
        self.target = ("127.0.0.1", port)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client = self.listener.accept()[0]
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with client, contextlib.suppress(OSError):
            client.settimeout(10)
            self.serve(client)

    def serve(self, client):
        raise NotImplementedError

    def pass_on(self, client, first=b""):
        with socket.create_connection(self.target) as server:
            server.sendall(first)
            client.setblocking(False)
            server.setblocking(False)
            relay(client, server)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Front(Stand):
    """Speaks TLS with those who connect, and passes what they say on to a port."""

    def __init__(self, certificate, port, *, only=None):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate.certificate, certificate.key)
        if only is not None:
            self.context.set_ciphers("DEFAULT:@SECLEVEL=0")  # else the library itself refuses
            self.context.minimum_version = self.context.maximum_version = only
        self.versions = []
        self.clients = set()
        super().__init__(port)

    def serve(self, client):
        client = self.context.wrap_socket(client, server_side=True)
        self.versions.append(client.version())
        self.clients.add(client)
        self.pass_on(client)

    def cut(self):
        """Ends all connections; new ones may come."""
        for client in list(self.clients):
            self.clients.discard(client)
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)


class Downgrade(Stand):
    """Stands before PostgreSQL, and tells those who ask for TLS that there is none."""

    SSL_REQUEST = struct.pack(">II", 8, 80877103)

    def __init__(self, port):
        self.went_on = 0  # who then spoke without it
        super().__init__(port)

    def serve(self, client):
        data = client.recv(65536)
        if data == self.SSL_REQUEST:
            client.sendall(b"N")
            data = client.recv(65536)
        if data:
            self.went_on += 1
            self.pass_on(client, data)


def relay(client, server):
    """Until either end is over. In one thread: two may not use a TLS socket at once."""
    while True:
        if not isinstance(client, ssl.SSLSocket) or not client.pending():
            select.select([client, server], [], [], 1)
        for source, target in ((client, server), (server, client)):
            try:
                data = source.recv(65536)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                continue
            if not data:
                return
            target.setblocking(True)
            target.sendall(data)
            target.setblocking(False)
