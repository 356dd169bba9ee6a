"""Who is who: the network's authority, certificates, tokens, joining, roles.

`fedn.domain.identity` has the words, `fedn.ports.IdentityStore` what is kept, `fedn.wire.security` puts
certificates on the wires.
"""
