//! The world's DNS server: UDP and TCP, one question a query, EDNS sizes honoured, negative answers
//! with an SOA so that resolvers can cache them (RFC 2308).

use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{Name, RData, Record};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::shared::Shared;
use super::zone::Answer;

/// Negative answers may be kept for so many seconds.
const NEGATIVE_TTL: u32 = 60;
/// Octets of a UDP answer without EDNS (RFC 1035 §4.2.1).
const UDP_OCTETS_MAX: usize = 512;

/// Answers datagrams until the runtime ends.
pub(crate) async fn serve_udp(shared: Arc<Shared>, socket: UdpSocket) {
    let mut buffer = [0; 4_096];
    loop {
        // An ICMP error for an earlier answer shows up here; it is about a client that went away.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        if let Some(answer) = answer(&shared, &buffer[..length], true)
            && let Err(error) = socket.send_to(&answer, client).await
        {
            tracing::debug!(%client, %error, "a DNS answer was not sent");
        }
    }
}

/// Accepts connections until the runtime ends.
pub(crate) async fn serve_tcp(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        tokio::spawn(converse(Arc::clone(&shared), stream));
    }
}

/// One TCP connection, queries framed by their length; ends with the client or a broken frame.
async fn converse(shared: Arc<Shared>, mut stream: TcpStream) {
    let mut query = Vec::new();
    while let Ok(length) = stream.read_u16().await {
        query.resize(usize::from(length), 0);
        if stream.read_exact(&mut query).await.is_err() {
            return;
        }
        let Some(answer) = answer(&shared, &query, false) else { continue };
        let Ok(length) = u16::try_from(answer.len()) else { return };
        let framed = [&length.to_be_bytes()[..], &answer].concat();
        if stream.write_all(&framed).await.is_err() {
            return;
        }
    }
}

/// The octets of the answer; `None` where there is none to give.
fn answer(shared: &Shared, query: &[u8], over_udp: bool) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).ok()?;
    if query.metadata.message_type != MessageType::Query {
        return None;
    }
    let id = query.metadata.id;
    let [question] = query.queries.as_slice() else {
        return Message::error_msg(id, query.metadata.op_code, ResponseCode::FormErr).to_vec().ok();
    };
    if query.metadata.op_code != OpCode::Query {
        return Message::error_msg(id, query.metadata.op_code, ResponseCode::NotImp).to_vec().ok();
    }
    shared.ledger().dns_query();
    let mut response = Message::response(id, OpCode::Query);
    response.metadata.recursion_desired = query.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.add_query(question.clone());
    let octets_max = usize::from(query.max_payload()).max(UDP_OCTETS_MAX);
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(1_232);
        response.set_edns(edns);
    }
    let name = question.name().to_ascii().trim_end_matches('.').to_ascii_lowercase();
    match shared.zone.answer(&name, question.query_type()) {
        Answer::Silent => return None,
        Answer::Servfail => response.metadata.response_code = ResponseCode::ServFail,
        Answer::Nxdomain => {
            response.metadata.response_code = ResponseCode::NXDomain;
            response.add_authority(authority(&name)?);
        }
        Answer::Records(records) => {
            if records.is_empty() {
                response.add_authority(authority(&name)?);
            }
            for record in records {
                // The question's own spelling comes back: resolvers use its case as a token.
                let owner = if record.name == name {
                    question.name().clone()
                } else {
                    Name::from_ascii(format!("{}.", record.name)).ok()?
                };
                response.add_answer(Record::from_rdata(owner, record.ttl, record.data));
            }
        }
    }
    let octets = response.to_vec().ok()?;
    if over_udp && octets.len() > octets_max { response.truncate().to_vec().ok() } else { Some(octets) }
}

/// The SOA of the top-level domain of a name.
fn authority(name: &str) -> Option<Record> {
    let top = format!("{}.", name.rsplit('.').next()?);
    let zone = Name::from_ascii(&top).ok()?;
    let server = Name::from_ascii(format!("ns.{top}")).ok()?;
    let person = Name::from_ascii(format!("hostmaster.{top}")).ok()?;
    let data = SOA::new(server, person, 1, 3_600, 600, 86_400, NEGATIVE_TTL);
    Some(Record::from_rdata(zone, NEGATIVE_TTL, RData::SOA(data)))
}
