"""A mail server, tests/lib/smtp_sink.py, and an authority for its certificate."""
import email
import email.policy
import json
import pathlib
import subprocess

PROGRAM = pathlib.Path(__file__).resolve().parents[2] / "lib/smtp_sink.py"
CERTIFICATE = """\
[req]
distinguished_name = name
prompt = no
[name]
CN = {name}
[ca]
basicConstraints = critical, CA:true
keyUsage = keyCertSign
[server]
subjectAltName = IP:127.0.0.1
"""


class Authority:
    """Signs the certificate of a server on 127.0.0.1."""

    def __init__(self, directory):
        self.directory = directory
        self.ca, self.cert, self.key = (directory / name for name in
                                        ("ca.pem", "server.pem", "server.key"))
        config = directory / "openssl.cnf"
        config.write_text(CERTIFICATE.format(name="tests"))
        new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
               "-days", "2", "-config", config]
        self._openssl(*new, "-extensions", "ca", "-keyout", directory / "ca.key", "-out", self.ca)
        config.write_text(CERTIFICATE.format(name="sink"))
        self._openssl(*new, "-extensions", "server", "-CA", self.ca, "-CAkey",
                      directory / "ca.key", "-keyout", self.key, "-out", self.cert)

    @staticmethod
    def _openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)


class Mail:
    def __init__(self, record):
        self.sender, self.to = record["from"], record["to"]
        self.tls, self.login, self.hello = record["tls"], record["login"], record["hello"]
        self.raw = record["text"]
        self.message = email.message_from_bytes(self.raw.encode("latin-1"),
                                                policy=email.policy.default)

    def parts(self):
        """(type, text) of each, with "\n" at the end of lines."""
        return [(part.get_content_type(), part.get_content().replace("\r\n", "\n"))
                for part in self.message.walk() if not part.is_multipart()]


class SmtpSink:
    def __init__(self, directory, *options):
        self.file = directory / "mails"
        self.file.touch()
        self.process = subprocess.Popen(["/usr/bin/python3", PROGRAM, self.file, *options],
                                        stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def mails(self, to=None):
        mails = [Mail(json.loads(line)) for line in self.file.read_text().splitlines()]
        return [mail for mail in mails if to is None or to in mail.to]

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
