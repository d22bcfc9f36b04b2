//! Reading and writing keys.

use bytes::Bytes;
use kvorum_proto::api::etcdserverpb::kv_client::KvClient;
use kvorum_proto::api::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, RangeStreamResponse, TxnRequest, TxnResponse,
};
use kvorum_proto::api::mvccpb::KeyValue;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::client::Client;
use crate::error::Error;
use crate::retry::Class;

impl Client {
    /// The newest value of one key, `None` if there is no such key.
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Option<KeyValue>, Error> {
        let request = RangeRequest { key: key.into(), ..Default::default() };
        Ok(self.range(request).await?.kvs.pop())
    }

    /// Writes one key.
    pub async fn put(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<PutResponse, Error> {
        self.put_with(PutRequest { key: key.into(), value: value.into(), ..Default::default() })
            .await
    }

    /// Deletes one key; `deleted` in the answer says whether there was one.
    pub async fn delete(&self, key: impl Into<Bytes>) -> Result<DeleteRangeResponse, Error> {
        self.delete_range(DeleteRangeRequest { key: key.into(), ..Default::default() }).await
    }

    /// Reads a range with everything that can be asked of it.
    pub async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Error> {
        self.call(Class::Repeatable, request, |channel, request| {
            let mut client = self.kv(channel);
            async move { client.range(request).await }
        })
        .await
    }

    /// Reads a range in pieces. The deadline covers the time until the server begins to answer.
    pub async fn range_stream(&self, request: RangeRequest) -> Result<RangeStream, Error> {
        let pieces = self
            .call(Class::Once, request, |channel, request| {
                let mut client = self.kv(channel);
                async move { client.range_stream(request).await }
            })
            .await?;
        Ok(RangeStream { pieces })
    }

    /// Writes one key with everything that can be asked of a put.
    pub async fn put_with(&self, request: PutRequest) -> Result<PutResponse, Error> {
        self.call(Class::Once, request, |channel, request| {
            let mut client = self.kv(channel);
            async move { client.put(request).await }
        })
        .await
    }

    /// Deletes a range.
    pub async fn delete_range(
        &self,
        request: DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, Error> {
        self.call(Class::Once, request, |channel, request| {
            let mut client = self.kv(channel);
            async move { client.delete_range(request).await }
        })
        .await
    }

    /// Compares, then does one of two lists of operations, all or nothing.
    pub async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Error> {
        self.call(Class::Once, request, |channel, request| {
            let mut client = self.kv(channel);
            async move { client.txn(request).await }
        })
        .await
    }

    /// The same for a transaction that only reads, which may be sent again as a read may.
    pub(crate) async fn txn_read(&self, request: TxnRequest) -> Result<TxnResponse, Error> {
        self.call(Class::Repeatable, request, |channel, request| {
            let mut client = self.kv(channel);
            async move { client.txn(request).await }
        })
        .await
    }

    /// Forgets what was overwritten or deleted before a revision.
    pub async fn compact(&self, request: CompactionRequest) -> Result<CompactionResponse, Error> {
        self.call(Class::Once, request, |channel, request| {
            let mut client = self.kv(channel);
            async move { client.compact(request).await }
        })
        .await
    }

    fn kv(&self, channel: Channel) -> KvClient<Channel> {
        KvClient::new(channel).max_decoding_message_size(self.config().response_bytes_max)
    }
}

/// The pieces of a range. Merged in order, as protobuf merges, they are the answer that [`Client::range`] would give.
#[derive(Debug)]
pub struct RangeStream {
    pieces: Streaming<RangeStreamResponse>,
}

impl RangeStream {
    /// The next piece; `None` after the last one, which has header, count and more.
    pub async fn next(&mut self) -> Result<Option<RangeResponse>, Error> {
        let piece = self.pieces.message().await?;
        Ok(piece.map(|piece| piece.range_response.unwrap_or_default()))
    }

    /// All that is still to come, in one answer.
    pub async fn collect(mut self) -> Result<RangeResponse, Error> {
        let mut whole = RangeResponse::default();
        while let Some(piece) = self.next().await? {
            whole = merged(whole, piece);
        }
        Ok(whole)
    }
}

fn merged(mut whole: RangeResponse, piece: RangeResponse) -> RangeResponse {
    whole.kvs.extend(piece.kvs);
    RangeResponse {
        header: piece.header.or(whole.header),
        kvs: whole.kvs,
        more: whole.more || piece.more,
        count: if piece.count == 0 { whole.count } else { piece.count },
    }
}

#[cfg(test)]
mod tests {
    use kvorum_proto::api::etcdserverpb::{RangeResponse, ResponseHeader};
    use kvorum_proto::api::mvccpb::KeyValue;
    use prost::Message;

    use super::merged;

    #[test]
    fn pieces_merge_as_protobuf_does() {
        let kvs = |key: &'static str| vec![KeyValue { key: key.into(), ..Default::default() }];
        let header = Some(ResponseHeader { revision: 7, ..Default::default() });
        let pieces = [
            RangeResponse { kvs: kvs("a"), ..Default::default() },
            RangeResponse { kvs: kvs("b"), ..Default::default() },
            RangeResponse { header, more: true, count: 9, ..Default::default() },
        ];
        let encoded: Vec<u8> = pieces.iter().flat_map(|piece| piece.encode_to_vec()).collect();
        let whole = pieces.into_iter().fold(RangeResponse::default(), merged);
        assert_eq!(whole, RangeResponse::decode(encoded.as_slice()).unwrap());
    }
}
