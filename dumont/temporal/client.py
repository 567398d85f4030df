"""The Temporal client, the same for worker, API, tests and replay: pydantic payloads, encrypted."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import timedelta

from temporalio.client import Client, TLSConfig
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter, DefaultFailureConverterWithEncodedAttributes
from temporalio.runtime import Runtime
from temporalio.service import RetryConfig, RPCError

from dumont.domain.errors import DependencyUnavailable
from dumont.temporal.codec import CodecKey, EncryptionCodec


def data_converter(codec_keys: Sequence[CodecKey]) -> DataConverter:
    """Pydantic models, sealed; failure messages and stack traces are sealed too."""
    return dataclasses.replace(
        pydantic_data_converter,
        payload_codec=EncryptionCodec(codec_keys),
        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,
    )


async def connect(
    *,
    address: str,
    namespace: str,
    codec_keys: Sequence[CodecKey],
    api_key: str | None = None,
    tls: TLSConfig | bool = False,
    runtime: Runtime | None = None,
) -> Client:
    """Connect to Temporal.

    Raises:
        DependencyUnavailable: Nobody answers at `address`; says what to check.
    """
    try:
        return await Client.connect(
            address,
            namespace=namespace,
            data_converter=data_converter(codec_keys),
            api_key=api_key,
            tls=tls,
            runtime=runtime,
            retry_config=RetryConfig(
                initial_interval_millis=100,
                max_interval_millis=2_000,
                max_elapsed_time_millis=int(timedelta(seconds=10).total_seconds() * 1000),
            ),
        )
    except (RPCError, RuntimeError) as error:
        raise DependencyUnavailable(
            f"Temporal does not answer at {address} ({error})",
            dependency="temporal",
            hint="is it started? check TEMPORAL_ADDRESS",
        ) from error
