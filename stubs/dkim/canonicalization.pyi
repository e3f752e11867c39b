class Relaxed:
    @staticmethod
    def canonicalize_body(body: bytes) -> bytes: ...

class Simple:
    @staticmethod
    def canonicalize_body(body: bytes) -> bytes: ...
