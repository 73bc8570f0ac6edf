"""A straightforward program with boto3 alone that puts or gets pieces of a file as objects, several at once.

python benchmarks/plain_loop.py put|get ENDPOINT BUCKET FILE OBJECTS PARALLEL
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import boto3
from botocore.config import Config

OBJECT_BYTES = 16 << 20


def main() -> None:
    """Run the loop. Credentials come through the environment, as for any program that uses boto3."""
    act, endpoint, bucket, file, objects, parallel = sys.argv[1:]
    config = Config(max_pool_connections=int(parallel), s3={"addressing_style": "path"})
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", config=config)
    descriptor = os.open(file, os.O_RDONLY if act == "put" else os.O_WRONLY | os.O_CREAT, 0o600)

    def put(number: int) -> None:
        body = os.pread(descriptor, OBJECT_BYTES, number * OBJECT_BYTES)
        client.put_object(Bucket=bucket, Key=f"object-{number}", Body=body)

    def get(number: int) -> None:
        body = client.get_object(Bucket=bucket, Key=f"object-{number}")["Body"].read()
        os.pwrite(descriptor, body, number * OBJECT_BYTES)

    with ThreadPoolExecutor(int(parallel)) as threads:
        list(threads.map(put if act == "put" else get, range(int(objects))))


if __name__ == "__main__":
    main()
