"""The wire: generated messages (``pb``), their mapping to domain values (``codec``), bulk frames
(``chunks``, ``spool``), errors as gRPC statuses (``status``), and channel options (``channel``)."""
