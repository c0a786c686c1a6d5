//! One connection to one broker: frames, versions, one request at a time.

use super::{ANSWER_SIZE_MAX, ClientError};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes, VersionRange};
use std::collections::HashMap;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const CLIENT_ID: &str = "headwater-cli";

/// A connection whose versions are negotiated.
pub struct Connection {
    address: String,
    stream: TcpStream,
    versions: HashMap<i16, VersionRange>,
    correlation: i32,
    wait: Duration,
    /// Set while an answer is due: a call that was given up leaves the answer in the stream, so the stream is useless.
    torn: bool,
}

impl Connection {
    /// Connects and asks which versions the broker serves.
    pub async fn open(address: &str, wait: Duration) -> Result<Connection, ClientError> {
        let connect = |source| ClientError::Connect { address: address.to_owned(), source };
        let stream = timeout(wait, TcpStream::connect(address))
            .await
            .map_err(|_| connect(io::Error::new(io::ErrorKind::TimedOut, "no answer to the connection attempt")))?
            .map_err(connect)?;
        stream.set_nodelay(true).map_err(connect)?;
        let versions = HashMap::new();
        let mut connection =
            Connection { address: address.to_owned(), stream, versions, correlation: 0, wait, torn: false };
        connection.negotiate().await?;
        Ok(connection)
    }

    async fn negotiate(&mut self) -> Result<(), ClientError> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("headwater-cli"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let mut answer: ApiVersionsResponse = self.call(&request, 3).await?;
        // A broker that does not know the version answers 35 in version 0, which begins like version 3 does.
        if answer.error_code == 35 {
            answer = self.call(&ApiVersionsRequest::default(), 0).await?;
        }
        ClientError::check(answer.error_code, None, || format!("{} refused to tell its versions", self.address))?;
        for row in answer.api_keys {
            self.versions.insert(row.api_key, VersionRange { min: row.min_version, max: row.max_version });
        }
        Ok(())
    }

    /// How long an answer may take.
    pub fn wait(&self) -> Duration {
        self.wait
    }

    /// Whether a call was given up half way, so that the connection must be replaced.
    pub fn is_torn(&self) -> bool {
        self.torn
    }

    /// The newest version of an API that both sides speak, at most `cap`.
    pub fn version<R: Request>(&self, cap: i16) -> Result<i16, ClientError> {
        let unsupported = || ClientError::Unsupported { address: self.address.clone(), api: api_name::<R>() };
        let served = self.versions.get(&R::KEY).ok_or_else(unsupported)?;
        let ours = VersionRange { min: R::VERSIONS.min, max: R::VERSIONS.max.min(cap) };
        let both = served.intersect(&ours);
        if both.is_empty() { Err(unsupported()) } else { Ok(both.max) }
    }

    /// Sends a request and reads its answer.
    pub async fn call<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response, ClientError> {
        self.call_within(request, version, self.wait).await
    }

    /// The same with a time of its own, for requests that wait at the broker.
    pub async fn call_within<R: Request>(
        &mut self,
        request: &R,
        version: i16,
        wait: Duration,
    ) -> Result<R::Response, ClientError> {
        self.begin(request, version).await?;
        self.finish::<R>(version, wait).await
    }

    /// Sends a request whose answer [`Connection::finish`] reads; nothing else may be sent between the two.
    pub async fn begin<R: Request>(&mut self, request: &R, version: i16) -> Result<(), ClientError> {
        let frame = self.frame(request, version)?;
        self.torn = true;
        match timeout(self.wait, self.stream.write_all(&frame)).await {
            Ok(sent) => sent.map_err(|source| ClientError::Lost { address: self.address.clone(), source }),
            Err(_) => Err(self.late::<R>(self.wait)),
        }
    }

    /// Reads the answer to what [`Connection::begin`] sent.
    pub async fn finish<R: Request>(&mut self, version: i16, wait: Duration) -> Result<R::Response, ClientError> {
        let answer = match timeout(wait, read_frame(&mut self.stream)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(source)) => return Err(ClientError::Lost { address: self.address.clone(), source }),
            Err(_) => return Err(self.late::<R>(wait)),
        };
        self.torn = false;
        self.decode::<R>(answer, version)
    }

    fn late<R: Request>(&self, after: Duration) -> ClientError {
        ClientError::Timeout { address: self.address.clone(), api: api_name::<R>(), after }
    }

    /// Sends a request that has no answer (Produce with acks 0).
    pub async fn send<R: Request>(&mut self, request: &R, version: i16) -> Result<(), ClientError> {
        let frame = self.frame(request, version)?;
        let lost = |source| ClientError::Lost { address: self.address.clone(), source };
        match timeout(self.wait, self.stream.write_all(&frame)).await {
            Ok(sent) => sent.map_err(lost),
            Err(_) => Err(lost(io::ErrorKind::TimedOut.into())),
        }
    }

    fn frame<R: Request>(&mut self, request: &R, version: i16) -> Result<Bytes, ClientError> {
        self.correlation = self.correlation.wrapping_add(1);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_static_str(CLIENT_ID)));
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        header
            .encode(&mut frame, R::header_version(version))
            .and_then(|()| request.encode(&mut frame, version))
            .map_err(|error| ClientError::Invalid(format!("{} cannot be written: {error}", api_name::<R>())))?;
        let size = i32::try_from(frame.len() - 4)
            .map_err(|_| ClientError::Invalid(format!("the {} request is too large", api_name::<R>())))?;
        frame[..4].copy_from_slice(&size.to_be_bytes());
        Ok(frame.freeze())
    }

    fn decode<R: Request>(&mut self, mut answer: Bytes, version: i16) -> Result<R::Response, ClientError> {
        let header_version = <R::Response as HeaderVersion>::header_version(version);
        let decoded = ResponseHeader::decode(&mut answer, header_version).and_then(|header| {
            if header.correlation_id != self.correlation {
                return Err(std::io::Error::other("it answers another request").into());
            }
            // An error about the version comes in version 0, whatever was asked (ApiVersions alone).
            let refused = R::KEY == ApiKey::ApiVersions as i16 && answer.remaining() >= 2 && answer[..2] == [0, 35];
            R::Response::decode(&mut answer, if refused { 0 } else { version })
        });
        decoded.map_err(|error| {
            self.torn = true;
            ClientError::Malformed { address: self.address.clone(), api: api_name::<R>(), why: error.to_string() }
        })
    }
}

async fn read_frame(stream: &mut TcpStream) -> io::Result<Bytes> {
    let size = stream.read_i32().await?;
    let size = usize::try_from(size).ok().filter(|size| *size <= ANSWER_SIZE_MAX);
    let size = size.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer's length makes no sense"))?;
    // The buffer grows with what arrives, so that a wrong length costs nothing.
    let mut answer = BytesMut::with_capacity(size.min(1 << 20));
    let mut rest = stream.take(size as u64);
    while answer.len() < size {
        if rest.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(answer.freeze())
}

/// The API's name for messages.
pub fn api_name<R: Request>() -> &'static str {
    match ApiKey::try_from(R::KEY) {
        Ok(ApiKey::Produce) => "Produce",
        Ok(ApiKey::Fetch) => "Fetch",
        Ok(ApiKey::ListOffsets) => "ListOffsets",
        Ok(ApiKey::Metadata) => "Metadata",
        Ok(ApiKey::ApiVersions) => "ApiVersions",
        Ok(ApiKey::CreateTopics) => "CreateTopics",
        Ok(ApiKey::DeleteTopics) => "DeleteTopics",
        Ok(ApiKey::DeleteRecords) => "DeleteRecords",
        Ok(ApiKey::InitProducerId) => "InitProducerId",
        Ok(ApiKey::DescribeConfigs) => "DescribeConfigs",
        Ok(ApiKey::CreatePartitions) => "CreatePartitions",
        Ok(ApiKey::IncrementalAlterConfigs) => "IncrementalAlterConfigs",
        Ok(ApiKey::FindCoordinator) => "FindCoordinator",
        Ok(ApiKey::ListGroups) => "ListGroups",
        Ok(ApiKey::DescribeGroups) => "DescribeGroups",
        Ok(ApiKey::ConsumerGroupDescribe) => "ConsumerGroupDescribe",
        Ok(ApiKey::DeleteGroups) => "DeleteGroups",
        Ok(ApiKey::OffsetFetch) => "OffsetFetch",
        Ok(ApiKey::OffsetCommit) => "OffsetCommit",
        _ => "the request",
    }
}
