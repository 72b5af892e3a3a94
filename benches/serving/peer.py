"""The peer: FastAPI and PEFT on the quickstart's base model with one LoRA adapter, as a sensible person would write it.

With `--adapters 2` it answers as the quickstart's two shards do: the mean of what the model gives with each adapter. What waits is answered
together, up to 64 requests; the model runs in a thread of its own, so that requests are read meanwhile.

    peer.py --port PORT [--threads N] [--adapters N]
"""

import argparse
import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import numpy
import torch
import uvicorn
from fastapi import FastAPI, Request, Response
from peft import LoraConfig, get_peft_model
from transformers import ViTForImageClassification
import orjson

MODEL = Path(__file__).resolve().parents[2] / "data" / "vit-mnist"
LABELS = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
MAX_BATCH = 64


def model(adapters):
    base = ViTForImageClassification.from_pretrained(MODEL, num_labels=len(LABELS))
    targets = r".*(attention\.query|attention\.value|q_proj|v_proj|query|value|intermediate\.dense|output\.dense|fc1|fc2)$"
    config = LoraConfig(r=8, lora_alpha=16, target_modules=targets)
    adapted = get_peft_model(base, config, adapter_name="0")
    for number in range(1, adapters):
        adapted.add_adapter(str(number), config)
    with torch.no_grad():
        for name, weights in adapted.named_parameters():
            if "lora_B" in name:
                weights.normal_(0, 0.02)
    count = sum("lora_A.0." in name for name, _ in adapted.named_parameters())
    assert count == 24, f"the adapter is on {count} layers"
    return adapted.eval()


class Batcher:
    def __init__(self, adapters):
        self.adapters = [str(number) for number in range(adapters)]
        self.model, self.queue, self.thread = model(adapters), asyncio.Queue(), ThreadPoolExecutor(1)

    def run(self, pictures):
        pixels = (torch.from_numpy(numpy.stack(pictures)) / 255 - 0.5) / 0.5
        scores = 0
        for adapter in self.adapters:
            if len(self.adapters) > 1:
                self.model.set_adapter(adapter)
            with torch.inference_mode():
                scores = scores + self.model(pixel_values=pixels.view(-1, 1, 28, 28)).logits.softmax(-1).numpy()
        return scores / len(self.adapters)

    async def work(self):
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self.queue.get()]
            while len(batch) < MAX_BATCH and not self.queue.empty():
                batch.append(self.queue.get_nowait())
            scores = await loop.run_in_executor(self.thread, self.run, [picture for picture, _ in batch])
            for (_, answer), row in zip(batch, scores):
                answer.set_result(row)

    async def ask(self, picture):
        answer = asyncio.get_running_loop().create_future()
        self.queue.put_nowait((picture, answer))
        return await answer


@asynccontextmanager
async def lifespan(app):
    app.state.batcher = Batcher(app.state.adapters)
    task = asyncio.create_task(app.state.batcher.work())
    yield
    task.cancel()


app = FastAPI(lifespan=lifespan)


@app.post("/predict")
async def predict(request: Request):
    picture = numpy.array(orjson.loads(await request.body())["inputs"]["features"], dtype=numpy.float32)
    scores = await request.app.state.batcher.ask(picture)
    scored = [{"label": LABELS[index], "score": float(scores[index])} for index in numpy.argsort(-scores)]
    return Response(orjson.dumps(scored), media_type="application/json")


@app.get("/readyz")
async def ready():
    return Response()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--adapters", type=int, default=1)
    arguments = parser.parse_args()
    app.state.adapters = arguments.adapters
    torch.set_num_threads(arguments.threads)
    uvicorn.run(app, host="127.0.0.1", port=arguments.port, loop="uvloop", http="httptools", log_level="warning", access_log=False)
