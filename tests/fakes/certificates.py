"""A certificate authority of the fake's own, and what its ports show."""

import ssl
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (Encoding, NoEncryption, PrivateFormat)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NAMES = ("localhost", "127.0.0.1", "*.vault.azure.net", "login.microsoftonline.com",
         "kms.us-east-1.amazonaws.com", "sts.us-east-1.amazonaws.com", "iam.amazonaws.com")
DAY = timedelta(days=1)


def pem_of(key, *certificates):
    """A private key and certificates, as PEM."""
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return text + b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def self_signed(key, name, names=(), is_authority=False):
    return _certificate(key, name, names, key, name, is_authority=is_authority)


def _certificate(key, name, names, signer, issuer, began=-DAY, ends=DAY, is_authority=False):
    now = datetime.now(timezone.utc)
    public = key.public_key()
    alternatives = [_alternative(one) for one in names]
    builder = (
        x509.CertificateBuilder().subject_name(_name(name)).issuer_name(_name(issuer))
        .public_key(public).serial_number(x509.random_serial_number())
        .not_valid_before(now + began).not_valid_after(now + ends)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
                       critical=False)
        .add_extension(x509.KeyUsage(
            digital_signature=not is_authority, key_cert_sign=is_authority, crl_sign=is_authority,
            content_commitment=False, key_encipherment=False, data_encipherment=False,
            key_agreement=False, encipher_only=False, decipher_only=False), critical=True))
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    if not is_authority:
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(text):
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)


class Authority:
    """Signs what the ports show; `path` is what a client has to trust."""

    NAME = "dekhand test authority"

    def __init__(self, folder):
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.path = folder / "ca.pem"
        certificate = self_signed(self.key, self.NAME, is_authority=True)
        self.path.write_bytes(certificate.public_bytes(Encoding.PEM))

    def context(self, what):
        """TLS of a server: `good`, `expired`, `wrong_host`, `self_signed` or `tls11` (at most)."""
        key = ec.generate_private_key(ec.SECP256R1())
        if what == "self_signed":
            certificate = self_signed(key, "localhost", NAMES)
        elif what == "expired":
            certificate = self._signed(key, NAMES, -2 * DAY, -DAY / 2)
        else:
            names = ["elsewhere.example"] if what == "wrong_host" else NAMES
            certificate = self._signed(key, names)
        path = self.folder / f"{what}.pem"
        path.write_bytes(pem_of(key, certificate))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        if what == "tls11":
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
            context.set_ciphers("ALL:@SECLEVEL=0")
        return context

    def _signed(self, key, names, began=-DAY, ends=DAY):
        return _certificate(key, names[0], names, self.key, self.NAME, began, ends)
