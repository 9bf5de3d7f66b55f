"""What went wrong with a bucket, in one paragraph that says what to mend and shows no secret."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from botocore import exceptions as boto

from study.errors import StorageError

NOT_FOUND = ("NoSuchKey", "404")
REFUSED = (
    *("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken"),
    *("ExpiredTokenException", "TokenRefreshRequired", "AccessDenied", "Forbidden", "403"),
)
"""Answers that other credentials may change."""

CREDENTIALS = (
    "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, on every host that works on "
    "the study, or give the hosts a role"
)
CURES = {
    "NoSuchBucket": "there is no such bucket at {endpoint}; make it, or correct the name",
    "InvalidAccessKeyId": "{endpoint} does not know this access key; " + CREDENTIALS,
    "SignatureDoesNotMatch": "{endpoint} refused the secret key, which is not that of this access "
    "key; " + CREDENTIALS,
    "ExpiredToken": "the credentials have expired; renew them (`aws sso login`), or use a profile "
    "or role that renews itself; the same command then goes on",
    "AccessDenied": "{endpoint} refused access; the credentials need permission to list the bucket "
    "and to get, put and delete objects in it",
    "RequestTimeTooSkewed": "the clock of this host is wrong; set it",
    "QuotaExceeded": "the bucket is full",
}
"""Error code -> what it means and what to do."""
SAME_AS = {
    "InvalidToken": "ExpiredToken",
    "ExpiredTokenException": "ExpiredToken",
    "TokenRefreshRequired": "ExpiredToken",
    "403": "AccessDenied",
    "Forbidden": "AccessDenied",
    "AllAccessDisabled": "AccessDenied",
}


def code_of(error: boto.ClientError) -> str:
    """The server's name for an error."""
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Let boto3's errors out as OSErrors of the place `uri`.

    Raises:
        FileNotFoundError: There is no such object.
        StorageError: Anything else.
    """
    try:
        yield
    except boto.ClientError as error:
        if code_of(error) in NOT_FOUND:
            raise FileNotFoundError(f"{uri}: no such object") from None
        raise StorageError(f"{uri}: {_answered(error)}") from None
    except (boto.BotoCoreError, ValueError) as error:
        raise StorageError(f"{uri}: {_failed(error)}") from None


def _answered(error: boto.ClientError) -> str:
    """What an answer of the server means."""
    code = code_of(error)
    cure = CURES.get(SAME_AS.get(code, code))
    if cure is not None:
        return cure.format(endpoint=_endpoint())
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return (
        f"{_endpoint()} answered {error.operation_name} with {code} (HTTP {status}); "
        "the same command goes on once that is mended"
    )


def _failed(error: Exception) -> str:
    """What it means that there was no answer. Messages of others may quote what they were given,
    so only such are repeated as cannot hold a secret."""
    match error:
        case boto.NoCredentialsError() | boto.NoAuthTokenError():
            return f"no AWS credentials were found; {CREDENTIALS}"
        case boto.PartialCredentialsError():
            return f"the AWS credentials are incomplete; {CREDENTIALS}"
        case boto.ProfileNotFound():
            profile = error.kwargs.get("profile")
            return f"there is no AWS profile {profile} (AWS_PROFILE); correct it, or set it up"
        case (
            boto.CredentialRetrievalError()
            | boto.TokenRetrievalError()
            | boto.SSOError()
            | boto.LoginError()
        ):
            return (
                "AWS credentials could not be fetched by the way that the profile names; try "
                "`aws sts get-caller-identity`, and mend the profile"
            )
        case boto.NoRegionError() | boto.InvalidRegionError():
            return "the AWS region is missing or is none; set AWS_REGION (as eu-north-1)"
        case boto.SSLError():
            return (
                f"the certificate of {_endpoint()} is not trusted; set AWS_CA_BUNDLE to the file "
                "of its authority"
            )
        case boto.ConnectionError() | boto.HTTPClientError():
            return (
                f"{_endpoint()} does not answer ({type(error).__name__}); check the network and "
                "AWS_ENDPOINT_URL, then give the same command again"
            )
        case boto.ParamValidationError():
            return (
                "is not the name of a bucket; names are 3 to 63 lower-case letters, digits, dots "
                "and hyphens"
            )
        case ValueError():
            return f"{_endpoint()} is no address; correct AWS_ENDPOINT_URL (as http://host:8333)"
        case _:
            return f"S3 cannot be used ({type(error).__name__}); check AWS_PROFILE and its file"


def _endpoint() -> str:
    """Where requests go, without the password that an address may hold."""
    given = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not given:
        return "S3"
    place = urlsplit(given)
    return f"{place.scheme}://{place.netloc.rpartition('@')[2]}" if place.netloc else given
