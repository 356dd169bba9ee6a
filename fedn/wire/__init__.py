"""The wire: generated messages (``pb``), their mapping to domain values (``codec``), bulk frames
(``chunks``, ``spool``), errors as gRPC statuses (``status``), channels and servers (``channel``), TLS
(``security``), who may call (``guard``), and the reducer over HTTP (``reducer_link``)."""
