"""What makes a failover lose less: replicas that have confirmed a write before it counts."""

from dataclasses import dataclass

from redis.exceptions import ResponseError

from factfold_chassis.log.link import REPLY_TIMEOUT, Argument, Link, LinkLost

_SHARE = 0.8  # of the time that an append may take


@dataclass(frozen=True, slots=True)
class Replicas:
    """How many must have confirmed what a connection has written.

    Redis tells it of the connection's own last write: on a new one, of none.
    """

    number: int
    milliseconds: int

    @classmethod
    def within(cls, number: int, seconds: float) -> "Replicas":
        """As part of an append that may take so long."""
        return cls(number, max(1, int(1000 * _SHARE * seconds)))

    def __bool__(self) -> bool:
        return self.number > 0

    @property
    def command(self) -> tuple[Argument, ...]:
        return "WAIT", self.number, self.milliseconds

    def missing(self, reply: int) -> str:
        """What the command's reply says, as one clause; empty if all is well."""
        if reply >= self.number:
            return ""
        return f"{reply} of {self.number} replicas have confirmed it"

    async def confirm(self, link: Link) -> None:
        """Raises LinkLost if too few replicas have what was written on this link."""
        if missing := await self._missing_on(link):
            raise LinkLost(f"{missing}, as FACTFOLD_WAIT_REPLICAS asks")

    async def missing_now(self, link: Link, key: str) -> str:
        """As `missing`, of all that was written before, on any link; `key` is a hash to write to.

        Raises LinkLost.
        """
        if self:
            try:
                await link.call("HSET", key, "_", "1")
            except ResponseError as error:  # full, or with too few replicas to write at all
                return f"whether replicas have it cannot be asked: {error}"
        return await self._missing_on(link)

    async def _missing_on(self, link: Link) -> str:
        if not self:
            return ""
        await link.send(self.command)
        return self.missing(await link.receive_soon(self.milliseconds / 1000 + REPLY_TIMEOUT))


NO_REPLICAS = Replicas(0, 0)
