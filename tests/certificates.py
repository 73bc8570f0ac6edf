"""Certificates for servers of tests."""

import datetime as dt
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def certificates(folder, days=30):
    """An authority, and a certificate for 127.0.0.1 and localhost that it signed."""
    now = dt.datetime.now(dt.UTC)

    def made(name, issuer, key, signer, *extensions):
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - dt.timedelta(days=60))
        builder = builder.not_valid_after(now + dt.timedelta(days=days))
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    keys = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, word)]) for word in ("authority", "server")]
    addresses = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
    (folder / "authority.pem").write_bytes(
        made(names[0], names[0], keys[0], keys[0], x509.BasicConstraints(ca=True, path_length=0))
    )
    (folder / "server.pem").write_bytes(
        made(names[1], names[0], keys[1], keys[0], x509.SubjectAlternativeName(addresses))
        + keys[1].private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return folder / "authority.pem", folder / "server.pem"
