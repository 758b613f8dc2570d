//! The server's side of libp2p's TLS, with a cipher that fits the processor.
//!
//! libp2p-tls prefers ChaCha20-Poly1305 and lets clients choose, so that it is always taken. Where AES is in hardware,
//! AES-GCM costs a fraction of it, and is taken here whenever we are asked. Which certificates are good is still
//! libp2p-tls' to say: all of that is its [`certificate::parse`].

use std::sync::Arc;

use futures::{AsyncRead, AsyncWrite};
use futures_rustls::rustls::client::danger::HandshakeSignatureValid;
use futures_rustls::rustls::crypto::aws_lc_rs::cipher_suite;
use futures_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use futures_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use futures_rustls::rustls::{
    DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme, version,
};
use futures_rustls::{TlsAcceptor, TlsStream};
use libp2p::PeerId;
use libp2p::identity::Keypair;
use libp2p::tls::{self, certificate};

/// Answers whoever wants a connection.
#[derive(Clone)]
pub(super) struct Server(Arc<ServerConfig>);

impl Server {
    pub(super) fn new(key: &Keypair) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let theirs = tls::make_server_config(key)?;
        let mut provider = (**theirs.crypto_provider()).clone();
        if has_aes() {
            let (aes, chacha) = (
                [cipher_suite::TLS13_AES_128_GCM_SHA256, cipher_suite::TLS13_AES_256_GCM_SHA384],
                [cipher_suite::TLS13_CHACHA20_POLY1305_SHA256],
            );
            provider.cipher_suites = [&aes[..], &chacha[..]].concat();
        }
        let mut config = ServerConfig::builder_with_provider(provider.into())
            .with_protocol_versions(&[&version::TLS13])?
            .with_client_cert_verifier(Arc::new(Peers))
            .with_cert_resolver(theirs.cert_resolver.clone());
        config.alpn_protocols.clone_from(&theirs.alpn_protocols);
        config.ignore_client_order = true;
        Ok(Self(Arc::new(config)))
    }

    /// The handshake; who it is that came, and the stream to it.
    pub(super) async fn accept<C>(self, socket: C) -> std::io::Result<(PeerId, TlsStream<C>)>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = TlsAcceptor::from(self.0).accept(socket).await?;
        let [shown] = stream.get_ref().1.peer_certificates().unwrap_or_default() else {
            return Err(std::io::ErrorKind::PermissionDenied.into());
        };
        let peer = certificate::parse(shown).map_err(std::io::Error::other)?.peer_id();
        Ok((peer, stream.into()))
    }
}

/// Whether AES is in hardware here, so that it is the faster one.
fn has_aes() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    false
}

/// Any libp2p peer that shows a certificate of its own: exactly one, signed by itself, that its identity vouches for
/// (libp2p's TLS specification, "Peer Authentication").
#[derive(Debug)]
struct Peers;

impl ClientCertVerifier for Peers {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if !more.is_empty() {
            return Err(Error::General("more than one certificate".into()));
        }
        certificate::parse(shown)?;
        Ok(ClientCertVerified::assertion())
    }

    /// Only TLS 1.3 is spoken.
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        certificate::parse(shown)?.verify_signature(signed.scheme, message, signed.signature())?;
        Ok(HandshakeSignatureValid::assertion())
    }

    /// As libp2p-tls has them.
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ED25519,
            SignatureScheme::RSA_PSS_SHA512,
            SignatureScheme::RSA_PSS_SHA384,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PKCS1_SHA512,
            SignatureScheme::RSA_PKCS1_SHA384,
            SignatureScheme::RSA_PKCS1_SHA256,
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::Ipv4Addr;

    use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
    use futures_rustls::TlsConnector;
    use futures_rustls::rustls::client::ResolvesClientCert;
    use futures_rustls::rustls::pki_types::ServerName;
    use futures_rustls::rustls::sign::CertifiedKey;
    use futures_rustls::rustls::{CipherSuite, ClientConfig};
    use libp2p::core::Endpoint;
    use libp2p::core::transport::{
        DialOpts, ListenerId, MemoryTransport, PortUse, Transport, TransportEvent,
    };

    use super::*;

    /// Shows no certificate.
    #[derive(Debug)]
    struct Nothing;

    impl ResolvesClientCert for Nothing {
        fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
            None
        }

        fn has_certs(&self) -> bool {
            false
        }
    }

    /// Shows this one.
    #[derive(Debug)]
    struct Shows(Arc<CertifiedKey>);

    impl ResolvesClientCert for Shows {
        fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
            Some(self.0.clone())
        }

        fn has_certs(&self) -> bool {
            true
        }
    }

    /// Both ends of a connection in memory.
    async fn ends() -> (impl AsyncRead + AsyncWrite + Unpin + Send, impl AsyncRead + AsyncWrite + Unpin + Send)
    {
        let mut here = MemoryTransport::new().boxed();
        here.listen_on(ListenerId::next(), "/memory/0".parse().expect("an address")).expect("listens");
        let address = match here.next().await {
            Some(TransportEvent::NewAddress { listen_addr, .. }) => listen_addr,
            other => panic!("{other:?}"),
        };
        let opts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        let dial = MemoryTransport::new().dial(address, opts).expect("dials");
        let (dialled, came) = futures::join!(dial, async {
            match here.next().await {
                Some(TransportEvent::Incoming { upgrade, .. }) => upgrade.await.expect("it came"),
                other => panic!("{other:?}"),
            }
        });
        (dialled.expect("it is dialled"), came)
    }

    /// What comes of a handshake with this client: the cipher, who came, and what it said.
    async fn shake(client: ClientConfig) -> io::Result<(CipherSuite, PeerId, Vec<u8>)> {
        let server = Server::new(&Keypair::generate_ed25519()).expect("a certificate");
        let (near, far) = ends().await;
        let name = ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into());
        let ours = async {
            let (peer, mut stream) = server.accept(far).await?;
            let mut said = vec![0; 5];
            stream.read_exact(&mut said).await?;
            let suite = stream.get_ref().1.negotiated_cipher_suite().expect("it is agreed");
            io::Result::Ok((suite.suite(), peer, said))
        };
        let theirs = async {
            let mut stream = TlsConnector::from(Arc::new(client)).connect(name, near).await?;
            stream.write_all(b"hello").await?;
            stream.flush().await?;
            // Whether it was let in it hears no sooner than now.
            let _ = stream.read(&mut [0]).await;
            io::Result::Ok(())
        };
        let (ours, theirs) = futures::join!(ours, theirs);
        theirs?;
        ours
    }

    #[tokio::test]
    async fn libp2p_peers_come_in_and_the_cipher_fits_the_processor() {
        let key = Keypair::generate_ed25519();
        let client = tls::make_client_config(&key, None).expect("a certificate");
        let (suite, peer, said) = shake(client).await.expect("both agree");
        let expected = match has_aes() {
            true => CipherSuite::TLS13_AES_128_GCM_SHA256,
            false => CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        };
        assert_eq!((suite, peer), (expected, key.public().to_peer_id()));
        assert_eq!(said, b"hello");
    }

    /// One that shows another's certificate, or none, is not let in.
    #[tokio::test]
    async fn who_cannot_say_who_it_is_stays_outside() {
        let (mine, other) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let good = || tls::make_client_config(&mine, None).expect("a certificate");
        let mut silent = good();
        silent.client_auth_cert_resolver = Arc::new(Nothing);
        assert!(shake(silent).await.is_err());
        let (shown, _) = certificate::generate(&mine).expect("a certificate");
        let (_, own) = certificate::generate(&other).expect("a certificate");
        let own = good().crypto_provider().key_provider.load_private_key(own).expect("a key");
        let mut forged = good();
        forged.client_auth_cert_resolver = Arc::new(Shows(Arc::new(CertifiedKey::new(vec![shown], own))));
        assert!(shake(forged).await.is_err());
    }
}
