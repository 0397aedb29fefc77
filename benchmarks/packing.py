"""Seconds to tokenize and pack a corpus, and the memory it took.

python benchmarks/packing.py train.txt.gz --tokenizer chibit
"""

import argparse
import os
import resource
import tempfile
import time

from wikirl.models.backbone import backbone_folder
from wikirl.reproducibility import available_cpus
from wikirl.text.corpora import open_corpus
from wikirl.text.packing import pack_corpus
from wikirl.text.tokenizers import byte_tokenizer, load_tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus")
    parser.add_argument("--tokenizer", default="chibit", help="chibit, bytes or a folder")
    arguments = parser.parse_args()
    name = arguments.tokenizer
    tokenizer = byte_tokenizer() if name == "bytes" else load_tokenizer(backbone_folder(name))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        os.environ["WIKIRL_CACHE"] = folder
        wall, cpu = time.perf_counter(), time.process_time()
        packed = pack_corpus(open_corpus(arguments.corpus), "training", tokenizer)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3
    print(
        f"{name}: {packed.num_bytes / 1e6:,.1f} MB, {packed.num_documents:,} documents, "
        f"{packed.num_tokens:,} tokens in {wall:.1f} s wall, {cpu:.1f} s of {available_cpus()} cores; "
        f"{packed.num_bytes / 1e6 / wall:.2f} MB/s; {memory:,.0f} MB more memory"
    )


if __name__ == "__main__":
    main()
